"""Requests that are over, for a bounded time, number and size."""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable

from calotype.api.record import Record

MAX_RECORDS = 10_000
"""Requests that are remembered; beyond, the oldest is forgotten."""

Key = tuple[str, str]
"""Owner and request id."""


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
        self._owned: defaultdict[str, OrderedDict[Key, None]] = defaultdict(OrderedDict)
        """Whose they are, the oldest first."""
        self._answers: defaultdict[str, OrderedDict[Key, int]] = defaultdict(OrderedDict)
        """Sizes of the answers of each owner, the oldest first."""
        self._used: defaultdict[str, int] = defaultdict(int)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._records)

    @property
    def used_bytes(self) -> int:
        """What the answers take; never over the bound."""
        return sum(self._used.values())

    def add(self, record: Record) -> None:
        """Keep a record that is over, in place of an older one of its name.

        A job gives way to jobs only.
        """
        key = (record.owner, record.request_id)
        before = self._records.get(key)
        if before is not None and before.is_job and not record.is_job:
            return
        self._forget(key)
        self._records[key] = record
        self._owned[record.owner][key] = None
        if record.answer is not None:
            size = len(record.answer.body)
            self._answers[record.owner][key] = size
            self._used[record.owner] += size
        while len(self._records) > MAX_RECORDS:
            most = max(self._owned, key=lambda owner: len(self._owned[owner]))
            self._forget(next(iter(self._owned[most])))
        while self.used_bytes > self._max_bytes:
            owner = max(self._used, key=self._used.__getitem__)
            self._drop_answer(next(iter(self._answers[owner])))
        self._expire()

    def find(self, owner: str, request_id: str) -> Record | None:
        """Return a record, if it is still here."""
        self._expire()
        return self._records.get((owner, request_id))

    def remove(self, record: Record) -> None:
        """Forget a record."""
        self._forget((record.owner, record.request_id))

    def expires_in_s(self, record: Record) -> float:
        """Return how long a record stays, unless room is needed."""
        return max(0.0, record.ended_s + self._keep_s - self._clock())

    def _expire(self) -> None:
        """Forget what is too old, and come back when the next will be."""
        while self._records:
            key, oldest = next(iter(self._records.items()))
            if (left_s := self.expires_in_s(oldest)) > 0:
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(left_s, self._wake)
                return
            self._forget(key)

    def _wake(self) -> None:
        self._timer = None
        self._expire()

    def _forget(self, key: Key) -> None:
        if (record := self._records.pop(key, None)) is None:
            return
        owned = self._owned[key[0]]
        del owned[key]
        if not owned:
            del self._owned[key[0]]
        if record.answer is not None:
            self._drop_answer(key, record)

    def _drop_answer(self, key: Key, record: Record | None = None) -> None:
        """Let go of an answer's bytes."""
        owner = key[0]
        self._used[owner] -= self._answers[owner].pop(key)
        if not self._answers[owner]:
            del self._answers[owner], self._used[owner]
        (record or self._records[key]).answer = None
