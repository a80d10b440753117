"""The workers of one model: who is free, who is gone, and who must be hired."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.execution.worker import Traits, Worker
from calotype.observe import metrics

Hire = Callable[["Crew"], Awaitable[Worker]]
"""Loads a worker, once there is room for it."""


class Watcher(Protocol):
    """Who is told what happens to a crew."""

    def changed(self, crew: "Crew") -> None:
        """A worker is free that wasn't, or one was lost."""
        ...

    def failed(self, crew: "Crew", error: Exception) -> None:
        """No worker could be loaded, and none is left."""
        ...


class Crew:
    """The workers of one model; belongs to one event loop.

    Args:
        model: what they run.
        hire: loads a worker.
        watcher: told what happens.
        size: the most workers.
    """

    def __init__(self, model: ModelSpec, hire: Hire, watcher: Watcher, size: int) -> None:
        self.model, self._hire, self._watcher, self._size = model, hire, watcher, size
        self._free: list[Worker] = []
        self._all: list[Worker] = []
        self._hiring: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._jobs = 0
        self._closed = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the first worker is there, or could not be loaded."""
        self.traits: Traits | None = None
        self.rest_bytes = 0
        """What a worker held between its last two runs; 0: not measured."""

    @property
    def jobs(self) -> int:
        """Jobs that wait for this crew, or run."""
        return self._jobs

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that are loaded."""
        return tuple(self._all)

    @property
    def resident_bytes(self) -> int:
        """Memory of all workers."""
        return sum(worker.usage.resident_bytes for worker in self._all)

    def key(self, job: Job) -> object:
        """Return what is equal for jobs that may share a batch."""
        batching = self.traits.batching if self.traits else None
        return (id(self), id(job) if batching is None else (job.shrink, batching.key(job)))

    def enter(self) -> None:
        """Count a job in: the crew will not be let go before it leaves."""
        self._jobs += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a job out."""
        self._jobs -= 1
        if self._jobs:
            return
        self._idle.set()
        if self.is_gone:
            self._watcher.changed(self)

    @property
    def is_gone(self) -> bool:
        """Whether it has no worker, none on its way, and nobody who would want one."""
        return not self._all and not self._jobs and self._hiring is None

    @property
    def has_free(self) -> bool:
        """Whether a worker could run something now."""
        return bool(self._free)

    def take(self) -> Worker:
        """Take a free worker; the one that ran last, for its caches are warm."""
        return self._free.pop()

    def give_back(self, worker: Worker) -> None:
        """Return a worker after its run; one that was lost is not missed."""
        if worker in self._all:
            self._free.append(worker)

    def want(self) -> None:
        """Hire a worker, unless one is on its way or there are enough."""
        if self._closed or self._hiring is not None or len(self._all) >= self._size:
            return
        self._hiring = asyncio.create_task(self._grow(), name=f"load-{self.model.id}")

    async def close(self) -> None:
        """Let the jobs finish, then end the workers."""
        await self._idle.wait()
        await self.dismiss()

    async def dismiss(self) -> None:
        """End the workers now."""
        self._closed = True
        if self._hiring is not None:
            self._hiring.cancel()
            await asyncio.wait((self._hiring,))
        if not self.ready.done():
            self.ready.cancel()
        workers, self._free = self.workers, []
        await asyncio.gather(*(worker.close() for worker in workers))

    def kill(self) -> None:
        """End the workers at once."""
        for worker in self._all:
            worker.kill()

    async def _grow(self) -> None:
        """Load one worker."""
        try:
            worker = await self._hire(self)
        except Exception as error:
            self._hiring = None
            if self._all:
                self._size = len(self._all)  # there is no room for more
            else:
                self._fail(error)
            return
        self._hiring = None
        self.traits = worker.traits
        self._all.append(worker)
        self._free.append(worker)
        worker.ended.add_done_callback(lambda _: self.lose(worker))
        if not self.ready.done():
            self.ready.set_result(None)
        self._watcher.changed(self)

    def _fail(self, error: Exception) -> None:
        self._watcher.failed(self, error)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # it may be that nobody waits any more

    def lose(self, worker: Worker) -> None:
        """Forget a worker that has ended."""
        if worker not in self._all:
            return
        self._all.remove(worker)
        if worker in self._free:
            self._free.remove(worker)
        if not self._closed:
            metrics.LOST.labels(self.model.id).inc()
            self._watcher.changed(self)
