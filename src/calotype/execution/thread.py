"""A worker on a thread of this process: for the library, the command line and tests."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from calotype.backends.base import Backend
from calotype.domain.request import Job
from calotype.errors import ModelLoadingError
from calotype.execution.worker import Answer, Traits, Usage, run_isolated


class ThreadWorker:
    """Loads and runs a backend on the same one thread.

    Args:
        load: makes the backend; called on the worker's thread.
        name: of the thread.
    """

    usage = Usage()
    """Its memory is this process's, and can't be told apart."""

    def __init__(self, load: Callable[[], Backend], name: str) -> None:
        self._make = load
        self._backend: Backend | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._ended = asyncio.get_running_loop().create_future()

    @property
    def traits(self) -> Traits:
        """What the model says of itself."""
        backend = self._loaded()
        return Traits(
            precision=backend.precision,
            batching=backend.batching,
            shrinks=backend.shrinks,
            device=backend.device,
        )

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done once it is closed."""
        return self._ended

    async def load(self) -> None:
        """Load the model."""
        self._backend = await asyncio.get_running_loop().run_in_executor(self._executor, self._make)

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Run a batch."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, run_isolated, self._loaded(), jobs
        )

    async def close(self) -> None:
        """Let go of the model once the running batch is done, which nobody waits for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._backend = None
        if not self._ended.done():
            self._ended.set_result(None)

    def kill(self) -> None:
        """Do nothing: a thread can't be ended."""

    def _loaded(self) -> Backend:
        if self._backend is None:
            raise ModelLoadingError("the model is not loaded")
        return self._backend
