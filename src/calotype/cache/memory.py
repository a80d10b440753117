"""Finished answers, kept in memory up to a number of bytes."""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from calotype.domain.request import ImageFormat

OVERHEAD_BYTES = 512
"""What an entry takes beside its texts: the object, its key and its place in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An encoded answer, with all that a second answer from it needs."""

    body: bytes
    format: ImageFormat
    etag: str
    """Digest of the body, without quotes."""
    seed: int | None
    notes: tuple[str, ...] = ()
    """Warnings that belong to the answer however often it is given."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else it says of the picture, by name."""

    @property
    def size_bytes(self) -> int:
        """What the entry takes in memory, nearly."""
        texts = sum(map(sys.getsizeof, (self.body, *self.notes, *self.facts.values())))
        return texts + OVERHEAD_BYTES


class ResponseCache(Protocol):
    """Keeps finished answers; may forget any of them at any time."""

    async def get(self, key: str) -> Entry | None:
        """Return what was stored under the key, or None."""

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry in place of any other under the key; never fails a request."""


class NullCache:
    """Keeps nothing."""

    async def get(self, key: str) -> Entry | None:
        """Return None."""
        return None

    async def put(self, key: str, entry: Entry) -> None:
        """Do nothing."""


class MemoryCache:
    """Keep the entries used last, as many as fit.

    It belongs to one event loop: no method awaits, so none needs a lock.

    Args:
        max_bytes: bound on the sum of ``Entry.size_bytes``.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first

    @property
    def used_bytes(self) -> int:
        """Sum of the sizes of the entries; never over the bound."""
        return self._used_bytes

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> Entry | None:
        """Return what was stored under the key, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry, and forget the least recently used ones until it fits.

        An entry over the bound is not stored; what it would have replaced is forgotten all the
        same, for it is out of date.
        """
        self._forget(key)
        size = entry.size_bytes
        if size > self._max_bytes:
            return
        while self._used_bytes + size > self._max_bytes:
            self._forget(next(iter(self._entries)))
        self._entries[key] = entry
        self._used_bytes += size

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used_bytes -= entry.size_bytes
