"""What runs one loaded model, and how a bad job fails alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from calotype.backends.base import Backend, Batching
from calotype.domain.hooks import JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import Device
from calotype.domain.request import Job
from calotype.errors import (
    BackendError,
    BadOutputError,
    CalotypeError,
    ModelCrashedError,
    OutOfMemoryError,
)

Answer = Image | CalotypeError | JobCancelledError


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a loaded model says of itself."""

    precision: str
    """What it computes in, and why."""
    batching: Batching | None = None
    """Which jobs may share a batch; None: each runs alone."""
    shrinks: int = 0
    """How often its tile can be halved."""
    device: Device = "cpu"
    """What it computes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Memory of a worker's process; zeros where it has none of its own."""

    resident_bytes: int = 0
    """Now."""
    rest_bytes: int = 0
    """Before its last run: what it holds while it does nothing."""
    peak_bytes: int = 0
    """The most it held during its last run."""


class WorkerLostError(Exception):
    """A worker ended, or was ended, before it had answered; never leaves ``execution``.

    Attributes:
        out_of_memory: whether the system seems to have ended it for want of memory.
    """

    def __init__(self, message: str, *, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class Worker(Protocol):
    """One loaded model: in a process of its own, or on a thread of this one."""

    @property
    def traits(self) -> Traits:
        """What the model, once loaded, says of itself."""
        ...

    @property
    def usage(self) -> Usage:
        """Memory as it was measured last."""
        ...

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done once the worker can't run anything any more, whyever."""
        ...

    async def load(self) -> None:
        """Load the model.

        Raises:
            CalotypeError: it can't be loaded.
            WorkerLostError: the worker ended over it.
        """
        ...

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Run a batch; one answer a job, in order.

        Raises:
            WorkerLostError: the worker ended over it.
        """
        ...

    async def close(self) -> None:
        """End the worker; its memory is free then."""
        ...

    def kill(self) -> None:
        """End the worker at once, from any thread, without waiting for anything."""
        ...


def run_isolated(backend: Backend, jobs: Sequence[Job]) -> list[Answer]:
    """Run a batch so that a bad job fails alone.

    A batch that raises is halved and each half run again, down to single jobs: at most ``2n - 1``
    calls, and one call when nothing is wrong. A single job that runs out of memory is run again
    with a smaller tile, as long as the backend has one.
    """
    try:
        outputs = backend.run(jobs)
        if len(outputs) != len(jobs):
            raise BadOutputError(f"{len(jobs)} jobs in, {len(outputs)} images out")
    except Exception as error:  # whatever a backend raises must not end the worker
        if len(jobs) == 1:
            return [_run_smaller(backend, jobs[0], _as_answer(error))]
        half = len(jobs) // 2
        return run_isolated(backend, jobs[:half]) + run_isolated(backend, jobs[half:])
    # Who left a batch that went on for its mates gets nothing.
    return [
        JobCancelledError("cancelled beside its mates") if job.hooks.cancelled else output
        for job, output in zip(jobs, outputs, strict=True)
    ]


def _run_smaller(backend: Backend, job: Job, answer: Answer) -> Answer:
    """Run a job that found no memory again with half the tile; return its last answer."""
    if not isinstance(answer, OutOfMemoryError) or job.shrink >= backend.shrinks:
        return answer
    return run_isolated(backend, [replace(job, shrink=job.shrink + 1)])[0]


def _as_answer(error: Exception) -> Answer:
    """Name what went wrong with a single job."""
    if isinstance(error, BackendError | JobCancelledError | CalotypeError):
        return error
    crash = OutOfMemoryError if isinstance(error, MemoryError) else ModelCrashedError
    named = crash(repr(error))
    named.__cause__ = error
    return named
