"""Requests that are over, for a bounded time, number and size."""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from calotype.api.record import Record

MAX_RECORDS = 10_000
"""Requests that are remembered; beyond, the oldest is forgotten."""

Key = tuple[str, str]
"""Owner and request id."""


@dataclass(slots=True)
class _Share:
    """What one owner has here; the oldest first."""

    records: OrderedDict[Key, Record] = field(default_factory=OrderedDict)
    answered: OrderedDict[Key, Record] = field(default_factory=OrderedDict)
    """Those of them that have an answer still."""
    used_bytes: int = 0
    """What the answers take."""


class Archive:
    """Keeps records that are over; belongs to one event loop.

    Whoever has most is the one whose oldest goes when there are too many, or their answers take too
    much room: nobody can push out what others wait to fetch.

    Args:
        max_bytes: of all answers together.
        keep_s: seconds that a record stays.
        clock: monotonic seconds, the one of the records.
    """

    def __init__(
        self, max_bytes: int, keep_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes, self._keep_s, self._clock = max_bytes, keep_s, clock
        self._records: OrderedDict[Key, Record] = OrderedDict()  # the oldest first
        self._shares: defaultdict[str, _Share] = defaultdict(_Share)
        """By owner."""
        self.used_bytes = 0
        """What the answers take; never over the bound once a record is added."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Keep a record that is over, in place of an older one of its name.

        A job gives way to jobs only.
        """
        key = (record.owner, record.request_id)
        before = self._records.get(key)
        if before is not None and before.is_job and not record.is_job:
            return
        self._forget(key)
        share = self._shares[record.owner]
        self._records[key] = share.records[key] = record
        if record.answer is not None:
            share.answered[key] = record
            self._count(share, len(record.answer.body))
        while len(self._records) > MAX_RECORDS:
            most = max(self._shares.values(), key=lambda share: len(share.records))
            self._forget(next(iter(most.records)))
        while self.used_bytes > self._max_bytes:
            largest = max(self._shares.values(), key=lambda share: share.used_bytes)
            self._drop_answer(next(iter(largest.answered)))
        self._expire()

    def find(self, owner: str, request_id: str) -> Record | None:
        """Return a record, if it is still here."""
        self._expire()
        return self._records.get((owner, request_id))

    def remove(self, owner: str, request_id: str) -> None:
        """Forget a record."""
        self._forget((owner, request_id))

    def expires_in_s(self, ended_s: float) -> float:
        """Return how long a record that ended then stays, unless room is needed."""
        return max(0.0, ended_s + self._keep_s - self._clock())

    def _expire(self) -> None:
        """Forget what is too old, and come back when the next will be."""
        while self._records:
            key, oldest = next(iter(self._records.items()))
            if (left_s := self.expires_in_s(oldest.ended_s)) > 0:
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(left_s, self._wake)
                return
            self._forget(key)

    def _wake(self) -> None:
        self._timer = None
        self._expire()

    def _forget(self, key: Key) -> None:
        if self._records.pop(key, None) is None:
            return
        self._drop_answer(key)
        share = self._shares[key[0]]
        del share.records[key]
        if not share.records:
            del self._shares[key[0]]

    def _drop_answer(self, key: Key) -> None:
        """Let go of an answer's bytes, if there are any."""
        share = self._shares[key[0]]
        record = share.answered.pop(key, None)
        if record is not None and record.answer is not None:
            self._count(share, -len(record.answer.body))
            record.answer = None

    def _count(self, share: _Share, size: int) -> None:
        share.used_bytes += size
        self.used_bytes += size
