"""What runs one loaded model, and how a bad job fails alone."""

from collections.abc import Sequence
from typing import Protocol

from calotype.backends.base import Backend
from calotype.domain.image import Image
from calotype.domain.request import Job, JobCancelledError
from calotype.errors import (
    BackendError,
    BadOutputError,
    CalotypeError,
    ModelCrashedError,
    OutOfMemoryError,
)

Answer = Image | CalotypeError | JobCancelledError


class Worker(Protocol):
    """One loaded model: on a thread here, in a process of its own later."""

    async def load(self) -> None:
        """Load the model.

        Raises:
            CalotypeError: it can't be loaded.
        """
        ...

    @property
    def precision(self) -> str:
        """What the loaded model computes in, and why."""
        ...

    def batch_key(self, job: Job) -> object:
        """Jobs with equal keys may share a batch."""
        ...

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Run a batch; one answer a job, in order."""
        ...

    def close(self) -> None:
        """Let go of the model once the running batch is done."""
        ...


def run_isolated(backend: Backend, jobs: Sequence[Job]) -> list[Answer]:
    """Run a batch so that a bad job fails alone.

    A batch that raises is halved and each half run again, down to single jobs:
    at most ``2n - 1`` calls, and one call when nothing is wrong.
    """
    try:
        outputs = backend.run(jobs)
        if len(outputs) != len(jobs):
            raise BadOutputError(f"{len(jobs)} jobs in, {len(outputs)} images out")
    except Exception as error:  # whatever a backend raises must not end the worker
        if len(jobs) == 1:
            return [_as_answer(error)]
        half = len(jobs) // 2
        return run_isolated(backend, jobs[:half]) + run_isolated(backend, jobs[half:])
    return list(outputs)


def _as_answer(error: Exception) -> Answer:
    """Name what went wrong with a single job."""
    if isinstance(error, BackendError | JobCancelledError | CalotypeError):
        return error
    crash = OutOfMemoryError if isinstance(error, MemoryError) else ModelCrashedError
    named = crash(repr(error))
    named.__cause__ = error
    return named
