"""Tells a store what happens to the requests of this server."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from calotype.api.record import Answer, Record, Told
from calotype.api.slot import Line, Slot, Update
from calotype.errors import StoreUnavailableError
from calotype.settings import Settings
from calotype.store.client import Store

logger = logging.getLogger(__name__)

PACE_S = 0.1
"""Between two updates of a request that goes on; its end waits for nothing."""
RENEW_S = 1.0
"""How often a server says that it is alive."""
LEASE_S = 6.0
"""How long it counts as alive after that."""
CLOSE_S = 2.0
"""What the last updates get at the end of the server."""
TOGETHER = 16
"""Updates on their way at a time."""
MAX_PREVIEW_CHARS = 128 * 1024
"""Of a preview that other servers show too."""
MAX_WAITING = 10_000
"""Updates that wait for a store that is away; beyond, the oldest is dropped."""


@dataclass(slots=True)
class _Entry:
    """How far a request has been told of."""

    slot: Slot
    is_first: bool = True
    written: int = 0
    """Number of the last event."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something is written, so that it is in order."""


class Chronicle:
    """Writes updates in the background, each request's in order; belongs to one event loop.

    Where the store is slow, or away for a while, what comes between is left out; the end is not.

    Args:
        store: what is written to.
        server: name of this server, as none other is called.
        settings: how long and how much is kept.
    """

    def __init__(self, store: Store, server: str, settings: Settings) -> None:
        self._store, self.server, self._settings = store, server, settings
        self._entries: dict[Record, _Entry] = {}
        self._waiting: dict[Record, None] = {}
        """Those of them that have news, the longest first."""
        self._news, self._ends = asyncio.Event(), asyncio.Event()
        self._runs = 0
        self._is_known = False
        """Whether the store has been told that this server is alive."""

    def __contains__(self, record: Record) -> bool:
        """Whether a request is one of its name that counts, and more is to be told of it."""
        return record in self._entries

    def enter(self, record: Record) -> None:
        """Tell of a request from now on, until it is over."""
        if record.run:
            return
        self._runs += 1
        record.run = f"{self.server}-{self._runs}"
        self._begin(record)

    async def claim(self, record: Record) -> bool:
        """Say at once that a request is in work; False if there is a job of its name.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        name = (record.owner, record.request_id)
        # One of its name may be over without having said so.
        for other in [one for one in self._waiting if (one.owner, one.request_id) == name]:
            await self._write(other)
        if record not in self._entries:
            self._begin(record)  # it was told of while another had its name
        await self._write(record)
        return record in self._entries

    async def tell(self, record: Record) -> None:
        """Write what is new of a request at once.

        Raises:
            StoreUnavailableError: the store doesn't answer; it is written later.
        """
        await self._write(record)

    async def forget(self, record: Record) -> None:
        """Have the store forget a request, and tell no more of it.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        entry = self._entries.get(record) or _Entry(self._slot(record))
        async with entry.lock:
            await entry.slot.forget(record.run)
            self._drop(record)

    async def attend(self) -> None:
        """Write updates as they come, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._stay_alive())

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._news.wait()
            done = await self.flush()
            self._ends.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_S if done else RENEW_S / 2):
                    await self._ends.wait()

    async def flush(self) -> bool:
        """Write all that waits; False if something could not be written now."""
        self._news.clear()
        records, self._waiting = [*self._waiting], {}
        left: list[Record] = []
        for start in range(0, len(records), TOGETHER):
            some = records[start : start + TOGETHER]
            ends = await asyncio.gather(*map(self._write, some), return_exceptions=True)
            for record, end in zip(some, ends, strict=True):
                if isinstance(end, StoreUnavailableError):
                    left.append(record)
                elif end is not None:
                    logger.error("request %s: not told of", record.request_id, exc_info=end)
                    self._drop(record)
        self._put_back(left)
        return not left

    async def close(self) -> None:
        """Write what is left, for a moment, and say that this server is gone."""
        with contextlib.suppress(TimeoutError, StoreUnavailableError):
            async with asyncio.timeout(CLOSE_S):
                while self._waiting and await self.flush():
                    pass
                key = lease(self._store, self.server)
                await self._store.ask(lambda client: client.delete(key))

    def _begin(self, record: Record) -> None:
        record.on_told = self._told
        self._entries[record] = _Entry(self._slot(record))
        self._told(record)

    def _slot(self, record: Record) -> Slot:
        return Slot(self._store, record.owner, record.request_id)

    def _told(self, record: Record) -> None:
        self._waiting[record] = None
        self._news.set()
        if record.is_over:
            self._ends.set()

    def _put_back(self, records: list[Record]) -> None:
        waiting = dict.fromkeys((*records, *self._waiting))
        for record in [*waiting][: max(0, len(waiting) - MAX_WAITING)]:
            del waiting[record]
            if record.is_over:
                self._drop(record)
        self._waiting = waiting

    async def _stay_alive(self) -> None:
        """Say that this server is alive, again and again; if that was forgotten, say all anew."""
        key, stay_ms = lease(self._store, self.server), int(LEASE_S * 1000)
        while True:
            with contextlib.suppress(StoreUnavailableError):
                before = await self._store.ask(
                    lambda client: client.set(key, "1", px=stay_ms, get=True)
                )
                if before is None and self._is_known:
                    for record, entry in self._entries.items():
                        entry.written = 0
                        self._told(record)
                self._is_known = True
            await asyncio.sleep(RENEW_S if self._store.is_up else RENEW_S / 2)

    async def _write(self, record: Record) -> None:
        """Write what is new of a request.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        entry = self._entries.get(record)
        if entry is None:
            return
        async with entry.lock:
            if record in self._entries:
                await self._write_news(record, entry)

    async def _write_news(self, record: Record, entry: _Entry) -> None:
        is_over = record.is_over
        told = [event for event in record.events if event.number > entry.written]
        if not told:
            return
        answer = await self._keep(entry.slot, record) if is_over else ""
        stay_s = self._settings.result_s + (0 if is_over else self._settings.max_deadline_s)
        update = Update(
            run=record.run,
            server=self.server,
            is_job=record.is_job,
            is_over=is_over,
            is_first=entry.is_first,
            stay_s=stay_s,
            answer=answer,
            lines=[
                _line(record, event, has_picture=bool(answer)) for event in told if _fits(event)
            ],
        )
        is_ours = await entry.slot.tell(update)
        entry.is_first, entry.written = False, told[-1].number
        if is_over or not is_ours:
            self._drop(record)

    async def _keep(self, slot: Slot, record: Record) -> str:
        """Keep a job's picture; return what is to be said of it, nothing where there is none."""
        answer: Answer | None = record.answer
        if answer is None:
            return ""
        try:
            return await slot.keep(record.run, answer, self._settings.result_s)
        except StoreUnavailableError:
            if not self._store.is_up:
                raise
            logger.warning("the store has no room for the picture of job %s", record.request_id)
            return ""

    def _drop(self, record: Record) -> None:
        """Tell no more of a request."""
        self._entries.pop(record, None)
        record.on_told = None


def lease(store: Store, server: str) -> str:
    """Return the key that is there while a server is alive."""
    return store.key("server", server)


def _fits(event: Told) -> bool:
    return len(event.moment.preview) <= MAX_PREVIEW_CHARS


def _line(record: Record, event: Told, *, has_picture: bool) -> Line:
    document = record.document_at(event.moment)
    if not has_picture:
        document["result"] = None
    return Line(number=event.number, name=event.name, document=document)
