"""How much work is taken in: bounded, and with a word on when to come back."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from calotype.domain.request import Job
from calotype.errors import QueueFullError, shutting_down
from calotype.execution.budget import MIB
from calotype.execution.policy import BatchLimits
from calotype.observe import metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much the pool takes."""

    jobs: int
    """That may wait or run, all models together."""
    picture_bytes: int
    """Of decoded pictures that wait or run."""
    hold_s: float
    """Seconds that a request waits for a loading model if it didn't ask to."""
    batch: BatchLimits
    slots: int = 1
    """Batches that run at the same time."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """By name of the token."""


class Admission:
    """Counts what is in work; belongs to one event loop.

    Args:
        jobs: the most that may wait or run, all models together.
        picture_bytes: the most that their decoded pictures may take; one may always be there.
        slots: batches that run at the same time.
    """

    def __init__(self, *, jobs: int, picture_bytes: int, slots: int) -> None:
        self._max_jobs, self._max_bytes, self._slots = jobs, picture_bytes, slots
        self._jobs = self._bytes = 0
        self._work_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    @property
    def jobs(self) -> int:
        """Jobs in work."""
        return self._jobs

    def check(self) -> None:
        """Refuse what can't be taken now.

        Raises:
            ShuttingDownError: nothing is taken any more.
            QueueFullError: enough is in work.
        """
        if self.draining:
            raise shutting_down()
        if self._jobs >= self._max_jobs:
            self._refuse(f"{self._jobs} requests are waiting, which is the most that may")

    @contextlib.contextmanager
    def holding(self, job: Job, expected_s: float) -> Iterator[None]:
        """Count a job for as long as it is in work.

        Args:
            job: its pictures count; the next job of a request that was let in is not refused.
            expected_s: how long it will keep the device busy.

        Raises:
            ShuttingDownError: nothing is taken any more.
            QueueFullError: enough is in work.
        """
        if not job.admitted:
            self.check()
        size = sum(image.pixels.nbytes for image in (job.image, *job.images.values()))
        if not job.admitted and self._jobs and self._bytes + size > self._max_bytes:
            self._refuse(f"the pictures of {self._jobs} requests take {self._bytes // MIB} MiB")
        self._add(1, size, expected_s)
        try:
            yield
        finally:
            self._add(-1, -size, -expected_s)

    async def settle(self, grace_s: float) -> bool:
        """Wait until nothing is in work; False if something is after that many seconds."""
        if not self._idle.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace_s)
        return self._idle.is_set()

    def _refuse(self, why: str) -> None:
        wait_s = max(1.0, self._work_s / self._slots)
        raise QueueFullError(f"busy: {why}", retry_after_s=wait_s)

    def _add(self, jobs: int, size: int, work_s: float) -> None:
        self._jobs += jobs
        self._bytes += size
        self._work_s += work_s
        if self._jobs:
            self._idle.clear()
        else:
            self._idle.set()
            self._work_s = 0.0
        metrics.QUEUE.set(self._jobs)
