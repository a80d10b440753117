"""A worker on a thread of this process."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from calotype.backends.base import Backend
from calotype.domain.request import Job
from calotype.errors import ModelLoadingError
from calotype.execution.worker import Answer, run_isolated


class ThreadWorker:
    """Loads and runs a backend on the same one thread.

    Args:
        load: makes the backend; called on the worker's thread.
        name: of the thread.
    """

    def __init__(self, load: Callable[[], Backend], name: str) -> None:
        self._make = load
        self._backend: Backend | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def load(self) -> None:
        """Load the model."""
        self._backend = await asyncio.get_running_loop().run_in_executor(self._executor, self._make)

    @property
    def precision(self) -> str:
        """What the loaded model computes in, and why."""
        return self._loaded().precision

    def batch_key(self, job: Job) -> object:
        """Jobs with equal keys may share a batch."""
        return self._loaded().batch_key(job)

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Run a batch."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, run_isolated, self._loaded(), jobs
        )

    def close(self) -> None:
        """Let go of the model once the running batch is done."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._backend = None

    def _loaded(self) -> Backend:
        if self._backend is None:
            raise ModelLoadingError("the model is not loaded")
        return self._backend
