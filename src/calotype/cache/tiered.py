"""Two caches in a row: the first is quick, the second is large, or shared."""

import asyncio
from typing import Protocol

from calotype.cache.memory import Entry, ResponseCache


class SecondCache(ResponseCache, Protocol):
    """What stands behind a quick cache."""

    async def renew(self, key: str, entry: Entry) -> None:
        """Note that an entry was made anew and came out the same; store it if it's gone."""


class TieredCache:
    """Two caches in a row: the first is quick, the second is large, or shared.

    Args:
        first: asked first. E.g. memory.
        second: asked when the first has nothing; its hits are put into the first.
    """

    def __init__(self, first: ResponseCache, second: SecondCache) -> None:
        self._first = first
        self._second = second
        self._writes: dict[asyncio.Task[None], str] = {}

    async def get(self, key: str) -> Entry | None:
        """Return what either cache stored under the key, or None."""
        entry = await self._first.get(key)
        if entry is None:
            entry = await self._second.get(key)
            if entry is not None:
                await self._first.put(key, entry)
        return entry

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry in the first, and begin to store it in the second: nobody waits for it.

        What was made anew and came out the same is not written again.
        """
        is_known = await self._first.get(key) == entry
        await self._first.put(key, entry)
        store = self._second.renew if is_known else self._second.put
        task = asyncio.create_task(store(key, entry), name="cache-write")
        self._writes[task] = key
        task.add_done_callback(self._writes.pop)

    async def settle(self, key: str | None = None) -> None:
        """Wait for what is being stored, under a key or under all."""
        writes = [task for task, name in self._writes.items() if key in (None, name)]
        if writes:
            await asyncio.wait(writes)
