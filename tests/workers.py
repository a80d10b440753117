"""Workers that answer when a test says so, and what joins them as the pool does."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from calotype.backends.base import Batching
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, Outcome
from calotype.execution.crew import Crew
from calotype.execution.policy import BatchLimits
from calotype.execution.scheduler import Scheduler
from calotype.execution.worker import Answer, Traits, Usage, Worker, WorkerLostError
from calotype.observe import metrics

SPEC = ModelSpec(id="t/model", backend="fake", revision="1")
LIMITS = BatchLimits(max_jobs=4, max_pixels=100, max_wait_s=0.0)
TRAITS = Traits(precision="none (test)", batching=Batching(), shrinks=2)
NEVER = float("inf")


def job(
    value: int,
    *,
    model: ModelSpec = SPEC,
    caller: str = "",
    deadline_s: float = NEVER,
    side: int = 1,
    shrink: int = 0,
    hooks: Hooks | None = None,
) -> Job:
    """Make a job whose picture tells which it is."""
    return Job(
        model=model,
        image=Image(np.full((side, side, 3), value, np.uint8)),
        params={},
        deadline_s=deadline_s,
        caller=caller,
        shrink=shrink,
        hooks=hooks or Hooks(),
    )


def number(job: Job) -> int:
    """Tell which job it is."""
    return int(job.image.pixels[0, 0, 0])


def value_of(outcome: Outcome) -> int:
    """Tell whose picture it is."""
    return int(outcome.image.pixels[0, 0, 0])


def counted(name: str, model: ModelSpec = SPEC) -> float:
    """Read a metric of a model."""
    return metrics.REGISTRY.get_sample_value(name, {"model": model.id}) or 0.0


async def finished(*tasks: "asyncio.Task[Outcome]") -> None:
    """Wait for tasks, whatever they end with; one that is stuck fails the test."""
    _, pending = await asyncio.wait(tasks, timeout=5)
    assert not pending


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Batch:
    """One run of a worker, which goes on until the test ends it."""

    def __init__(self, worker: "ScriptedWorker", jobs: Sequence[Job]) -> None:
        self.worker, self.jobs = worker, jobs
        self.reply: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()

    @property
    def numbers(self) -> list[int]:
        """Tell which jobs run."""
        return [number(job) for job in self.jobs]

    def answer(self, *answers: Answer) -> None:
        """Answer as told, or with each job's own picture."""
        own: list[Answer]
        own = [JobCancelledError() if j.hooks.cancelled else j.image for j in self.jobs]
        self.reply.set_result(list(answers) or own)

    def crash(self, *, out_of_memory: bool = False) -> None:
        """Lose the worker."""
        self.worker.end()
        self.reply.set_exception(WorkerLostError("the worker fell", out_of_memory=out_of_memory))


class ScriptedWorker:
    """Hands each batch to the test."""

    usage = Usage(resident_bytes=1)

    def __init__(self, begun: asyncio.Queue[Batch], traits: Traits = TRAITS) -> None:
        self.traits, self._begun = traits, begun
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = self.killed = False

    async def load(self) -> None:
        """Do nothing."""

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Answer when the test does."""
        batch = Batch(self, jobs)
        self._begun.put_nowait(batch)
        return await batch.reply

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
        self.end()

    def kill(self) -> None:
        """Note that it was killed."""
        self.killed = True

    def end(self) -> None:
        """Be gone."""
        if not self.ended.done():
            self.ended.set_result(None)


class House:
    """A scheduler, its crews and their workers.

    Args:
        slots: batches at the same time.
        limits: of each batch.
        priorities: by caller.
        traits: of each worker.
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        limits: BatchLimits = LIMITS,
        priorities: Mapping[str, int] | None = None,
        traits: Traits = TRAITS,
    ) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler(self, slots, priorities or {}, self.clock)
        self.begun: asyncio.Queue[Batch] = asyncio.Queue()
        self.expected: float = 10.0
        self.measured: list[tuple[int, float]] = []
        self.given_up: list[Exception] = []
        self.hired = 0
        self._limits, self._traits = limits, traits
        self._gathering = False

    async def crew(self, model: ModelSpec = SPEC, size: int = 1) -> Crew:
        """Make a crew that has its first worker."""
        crew = Crew(model, self._hire, self, size)
        crew.want()
        await crew.ready
        return crew

    async def submit(self, crew: Crew, *jobs: Job) -> list["asyncio.Task[Outcome]"]:
        """Queue jobs, in order, and all before the first one leaves for want of company."""
        self._gathering = True
        tasks = [asyncio.create_task(self.scheduler.submit(job, crew)) for job in jobs]
        await asyncio.sleep(0)  # each task runs to where it waits
        self._gathering = False
        self.scheduler.wake()
        return tasks

    async def next_batch(self) -> Batch:
        """Wait until a batch runs; a queue that is stuck fails the test."""
        async with asyncio.timeout(5):
            return await self.begun.get()

    async def _hire(self, crew: Crew) -> Worker:
        del crew
        self.hired += 1
        return ScriptedWorker(self.begun, self._traits)

    # What the scheduler and the crews ask and tell.

    def limits(self, crew: Crew) -> BatchLimits:
        """Bound each batch alike."""
        del crew
        return replace(self._limits, max_wait_s=60.0) if self._gathering else self._limits

    def expected_s(self, job: Job) -> float:
        """Expect the same of each job."""
        del job
        return self.expected

    def ran(self, crew: Crew, worker: Worker, jobs: Sequence[Job], seconds: float) -> None:
        """Note how many ran, and how long."""
        del crew, worker
        self.measured.append((len(jobs), seconds))

    def gave_up(self, crew: Crew, error: Exception) -> None:
        """Note why."""
        del crew
        self.given_up.append(error)

    def changed(self, crew: Crew) -> None:
        """Go on."""
        del crew
        self.scheduler.wake()

    def failed(self, crew: Crew, error: Exception) -> None:
        """Answer who waits."""
        self.scheduler.fail(crew, error)
