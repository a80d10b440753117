"""Finished answers in the store that several servers share."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from calotype.cache import record
from calotype.cache.memory import Entry, ResponseCache
from calotype.errors import StoreUnavailableError
from calotype.store.client import Client, Store

_logger = logging.getLogger(__name__)

T = TypeVar("T")

INLINE_BYTES = 512 * 1024
"""Larger entries are packed and checked on a thread, so that nobody else waits."""
TRUST_S = 2.0
"""How long an answer in memory is given without a look at what is shared."""

_ETAG, _RECORD = "etag", "record"


class SharedCache:
    """Keep entries in a store, for all the servers that use it.

    Nothing here fails a request: a store that is away is a miss.

    Args:
        store: where.
        keep_s: after which an entry is forgotten.
        max_entry_bytes: bound on the body of an entry; a larger one is not stored.
    """

    def __init__(self, store: Store, *, keep_s: float, max_entry_bytes: int) -> None:
        self._store = store
        self._keep_ms = int(keep_s * 1000)
        self._max_entry_bytes = max_entry_bytes

    async def get(self, key: str) -> Entry | None:
        """Return what was stored under the key, or None; a damaged entry is deleted."""
        name = self._name(key)
        try:
            content = await self._read(name, _RECORD)
            if content is None:
                return None
            return await _aside(len(content), lambda: record.unpack(content, key))
        except StoreUnavailableError:
            return None
        except record.DamagedError as exc:
            _logger.warning("deleted a damaged answer from the store: %s", exc)
            await self._delete(name)
            return None

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry in place of any other; one over the bound only deletes it."""
        name, size = self._name(key), len(entry.body)
        if size > self._max_entry_bytes:
            await self._delete(name)  # out of date
            return
        content = await _aside(size, lambda: b"".join(record.pack(key, entry)))

        async def write(client: Client) -> None:
            async with client.pipeline() as batch:  # a transaction
                batch.hset(name, mapping={_ETAG: entry.etag, _RECORD: content})
                batch.pexpire(name, self._keep_ms)
                await batch.execute()

        with contextlib.suppress(StoreUnavailableError):
            await self._store.ask(write)

    async def renew(self, key: str, entry: Entry) -> None:
        """Store an entry that was made anew: another server may have stored another since."""
        await self.put(key, entry)

    async def etag(self, key: str) -> str | None:
        """Return the etag of what is stored under the key, or None; it costs next to nothing."""
        name = self._name(key)
        try:
            found = await self._read(name, _ETAG)
        except StoreUnavailableError:
            return None
        return None if found is None else found.decode()

    async def _read(self, name: str, part: str) -> bytes | None:
        found: Any = await self._store.ask(lambda client: client.hget(name, part))
        return found  # type: ignore[no-any-return]  # bytes: nothing is decoded

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self._store.ask(lambda client: client.delete(name))

    def _name(self, key: str) -> str:
        return self._store.key("answer", key)


class RecheckedCache:
    """Memory in front of a shared cache, where another server may store another answer.

    An answer is given for ``TRUST_S`` without asking; then its etag is compared with what is
    shared.
    What isn't shared, or can't be asked for, is given on: an answer is never wrong, only another
    than the one that somebody asked for anew.

    Args:
        memory: what keeps the entries.
        shared: what they are compared with.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        memory: ResponseCache,
        shared: SharedCache,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory, self._shared, self._clock = memory, shared, clock
        self._trusted: set[str] = set()
        self._since_s = clock()

    async def get(self, key: str) -> Entry | None:
        """Return what was stored under the key, unless something else is shared now."""
        entry = await self._memory.get(key)
        if entry is None or self._is_trusted(key):
            return entry
        etag = await self._shared.etag(key)
        if etag not in (None, entry.etag):
            return None
        self._trusted.add(key)
        return entry

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry that was made here, or was shared a moment ago."""
        self._is_trusted(key)
        self._trusted.add(key)
        await self._memory.put(key, entry)

    def _is_trusted(self, key: str) -> bool:
        """Tell whether a key was looked at in this period; begin the next when it's time."""
        now_s = self._clock()
        if now_s - self._since_s >= TRUST_S:
            self._trusted.clear()
            self._since_s = now_s
        return key in self._trusted


async def _aside(size_bytes: int, work: Callable[[], T]) -> T:
    """Do something that takes a while for many bytes."""
    return work() if size_bytes <= INLINE_BYTES else await asyncio.to_thread(work)
