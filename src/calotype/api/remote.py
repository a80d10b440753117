"""A request that another server runs, or ran, as the store tells of it."""

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus

from calotype.api.chronicle import lease
from calotype.api.problems import Problem, describe
from calotype.api.record import MAX_EVENTS, Answer, Json, Moment, Told, error_document
from calotype.api.slot import Line, Page, Slot, Update
from calotype.errors import RequestLostError, StoreUnavailableError
from calotype.store.client import Store

GRACE_S = 3.0
"""How long a server may be missing; one that finds its store again needs a moment to say so."""
FORGOTTEN_S = 30.0
"""How long one that is alive may say nothing of a request that the store has lost."""
REST_S = 0.5
"""Between two looks at a store that is away."""

_DETAILS = ("place", "estimated_time", "progress")


class Remote:
    """One request of another server; read again whenever somebody waits for it.

    Where a newer one takes its name, it tells of that: the store says no more of the older.

    Args:
        store: tells of it.
        slot: where it is told of.
        page: what is told of it now.
        owner: name of the sender's token.
        request_id: what its sender calls it.
        keep_s: how long it is kept when it is over.
    """

    def __init__(
        self, store: Store, slot: Slot, page: Page, *, owner: str, request_id: str, keep_s: float
    ) -> None:
        self._store, self._slot, self._keep_s = store, slot, keep_s
        self.owner, self.request_id = owner, request_id
        self.problem: Problem | None = None
        """Why it failed, or was cancelled."""
        self.ended_s = 0.0
        """On the monotonic clock."""
        self.is_over = False
        """Whether nothing more happens to it."""
        self.is_told_of = True
        """Whether the store knew it when it was last asked."""
        self._page = page
        self._events: list[Told] = []
        self.document: Json = {}
        """What its sender is told."""
        self._replaced = 0
        """Number of the last event of those it has replaced; its own are counted on from there."""
        self._missed_s: float | None = None
        """Since when its server has not been seen."""
        self._take(page)

    @property
    def run(self) -> str:
        """What tells it from others of its name."""
        return self._page.run

    @property
    def _last(self) -> int:
        """Number of the last event that is known."""
        return self._events[-1].number

    @property
    def _seen(self) -> int:
        """The same, as the store counts them."""
        return self._last - self._replaced

    @property
    def events(self) -> tuple[Told, ...]:
        """What happened, the last last."""
        return tuple(self._events)

    def document_at(self, moment: Moment) -> Json:
        """Describe it as it was at some time."""
        shown = {"stage": moment.stage or None, "preview": moment.preview or None}
        return self.document | {"state": moment.state, **moment.details, **shown}

    async def change(self, timeout_s: float) -> None:
        """Wait until something happens, or the time is over."""
        until_s, last = time.monotonic() + timeout_s, self._last
        while self._last == last and (left_s := until_s - time.monotonic()) > 0:
            try:
                await self._slot.news(self._seen, left_s)
                if not await self.look() and self._last == last:
                    # There may be news all the time, and no word of whose they are.
                    await asyncio.sleep(min(left_s, REST_S))
            except StoreUnavailableError:
                # When it is back, the request's server says what was missed.
                await asyncio.sleep(min(left_s, REST_S))

    async def over(self, timeout_s: float) -> None:
        """Wait until it is over, or the time is."""
        until_s = time.monotonic() + timeout_s
        while not self.is_over and (left_s := until_s - time.monotonic()) > 0:
            await self.change(left_s)

    async def look(self) -> bool:
        """Find out whether it is still in work; False if its server has not been seen.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        self.is_told_of = await self._read()
        key = lease(self._store, self._page.server)
        is_alive = await self._store.ask(lambda client: client.get(key)) is not None
        if self.is_over or (is_alive and self.is_told_of):
            self._missed_s = None
            return True
        now_s = time.monotonic()
        self._missed_s = now_s if self._missed_s is None else self._missed_s
        if now_s - self._missed_s >= (FORGOTTEN_S if is_alive else GRACE_S):
            await self._lose()
        return False

    async def picture(self) -> Answer | None:
        """Return the answer of a job that is done, as long as it is kept."""
        return await self._slot.picture(self._page)

    async def forget(self) -> None:
        """Have the store forget it.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        await self._slot.forget(self.run)

    async def _read(self) -> bool:
        """Take in what the store tells; False if that is nothing."""
        page = await self._slot.read(self._seen)
        is_newer = page is not None and page.run != self.run
        if is_newer:
            page = await self._slot.read()
        if page is None or (is_newer and not page.lines):
            return False
        if is_newer:
            self._replaced, self._missed_s = self._last, None
            self._events.clear()
        self._take(page)
        return True

    async def _lose(self) -> None:
        """Say, for its server that can't, that it will have no end."""
        lost = RequestLostError(
            f"the server that ran request {self.request_id} is gone; send it again",
            retry_after_s=1.0,
        )
        nothing = dict.fromkeys((*_DETAILS, "preview", "result"))
        error = error_document(describe(lost))
        document = self.document | nothing | {"state": "failed", "error": error}
        line = Line(number=self._seen + 1, name="failed", document=document)
        update = Update(
            run=self.run,
            server=self._page.server,
            is_job=False,  # so that its id is free for another try
            is_over=True,
            stay_s=self._keep_s,
            lines=(line,),
        )
        # If it is not told of, nobody has to be told.
        if self.is_told_of and not await self._slot.tell(update) and await self._read():
            return  # somebody was quicker, or it is not so
        self._hear((line,))
        self._end(self._keep_s)

    def _take(self, page: Page) -> None:
        """Take in what is new."""
        self._page = page
        self._hear(page.lines)
        if page.is_over and not self.is_over:
            self._end(page.stays_s)

    def _hear(self, lines: Sequence[Line]) -> None:
        for line in lines:
            moment, self.document = _moment(line.document), line.document
            number = self._replaced + line.number
            self._events.append(Told(number=number, name=line.name, moment=moment))
        del self._events[:-MAX_EVENTS]

    def _end(self, stays_s: float) -> None:
        self.is_over = True
        del self._events[:-1]
        self.ended_s = time.monotonic() + stays_s - self._keep_s
        error = self.document["error"]
        self.problem = _problem(error) if error else None


def _moment(document: Json) -> Moment:
    """Return what a request was doing when it was described so."""
    return Moment(
        state=document["state"],
        details={name: document[name] for name in _DETAILS},
        stage=document["stage"] or "",
        preview=document["preview"] or "",
    )


def _problem(error: Json) -> Problem:
    """Return an error as it was before it was written."""
    rest = dict(error)
    return Problem(
        status=HTTPStatus(rest.pop("status")),
        kind=rest.pop("error_type"),
        message=rest.pop("error"),
        retry_after_s=rest.pop("retry_after_s", None),
        extra=rest,
    )
