"""A device that does what a plan says, in virtual time, and notes what must not be."""

import asyncio
import selectors
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calotype.domain.hooks import JobCancelledError
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, Outcome
from calotype.errors import BadOutputError, DeadlineExceededError, ModelCrashedError
from calotype.execution.crew import Crew
from calotype.execution.policy import BatchLimits
from calotype.execution.scheduler import MAX_ATTEMPTS, Scheduler
from calotype.execution.worker import Answer, Traits, Usage, Worker, WorkerLostError
from workers import NEVER, TRAITS, number
from workers import job as make_job

End = Literal["answer", "error", "crash", "memory", "break"]
"""Of a run: ``crash`` and ``memory`` take the worker along, ``break`` is on our side of it."""
LONG_S = 100
"""Longer than anything that is planned."""
LOST: tuple[End, ...] = ("crash", "memory")


# What happens, and when


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    crew: int
    caller: str
    side: int
    at_s: int
    leaves_after_s: int | None
    deadline_after_s: int | None


@dataclass(frozen=True, kw_only=True)
class CrewPlan:
    size: int
    batches: bool
    early: bool
    """Whether it hires before anybody asks."""
    loads_s: int
    fails: list[bool]
    """Which of its loads fail; those beyond succeed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    slots: int
    limits: BatchLimits
    crews: list[CrewPlan]
    jobs: list[JobPlan]
    runs: list[tuple[End, int]]
    """How the runs end, and after how long; those beyond answer after a second."""
    falls: list[tuple[int, int]]
    """When a worker ends by itself, and which of those that are there."""


# Virtual time


class Jump(selectors.SelectSelector):
    """Lets time pass instead of waiting."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "stuck: nothing will ever happen"
        self.now_s += timeout
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jump = Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now_s


# A device, whose every step is checked


class ScriptedWorker:
    usage = Usage()

    def __init__(self, device: "Device", crew: Crew, traits: Traits) -> None:
        self.device, self.crew, self.traits = device, crew, traits
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.busy = False

    async def load(self) -> None:
        """Do nothing."""

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        end, takes_s = self.device.begin(self, jobs)
        self.busy = True
        try:
            await asyncio.wait((self.ended,), timeout=takes_s)
        finally:
            self.busy = False
            self.device.busy -= 1
        if self.ended.done() or end in LOST:
            self.device.note(jobs, "memory" if end == "memory" else "crash")
            self.fall()
            raise WorkerLostError("fell", out_of_memory=end == "memory")
        self.device.note(jobs, end)
        if end == "break":
            raise RuntimeError("broke")
        return [self._answer(job, end) for job in jobs]

    def _answer(self, job: Job, end: End) -> Answer:
        if job.hooks.cancelled:
            return JobCancelledError()
        return BadOutputError(str(number(job))) if end == "error" else job.image

    async def close(self) -> None:
        self.fall()

    def kill(self) -> None:
        self.fall()

    def fall(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass
class Device:
    """Joins a scheduler and crews as the pool does, and notes what must not be."""

    plan: Plan
    loop: Loop
    workers: list[ScriptedWorker] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ends: dict[int, list[End]] = field(default_factory=dict)
    shrinks: dict[int, list[int]] = field(default_factory=dict)
    sent: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """Whose callers left before they were answered."""
    unlucky: set[int] = field(default_factory=set)
    """Who were not answered yet when all was closed."""
    busy: int = 0
    given_up: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self, self.plan.slots, {"vip": 1}, self.loop.time)
        self.runs = iter(self.plan.runs)
        self.crews: list[Crew] = []
        self.crew_of: dict[int, Crew] = {}
        self.fails: dict[Crew, Iterator[bool]] = {}
        self.plans: dict[Crew, CrewPlan] = {}
        for index, plan in enumerate(self.plan.crews):
            model = ModelSpec(id=f"t/{index % 2}", backend="fake", revision="1")
            crew = Crew(model, self._hire, self, plan.size)
            self.crews.append(crew)
            self.plans[crew], self.fails[crew] = plan, iter(plan.fails)
            if plan.early:
                crew.want()

    async def _hire(self, crew: Crew) -> Worker:
        plan = self.plans[crew]
        await asyncio.sleep(plan.loads_s)
        if next(self.fails[crew], False):
            raise ModelCrashedError("can't be loaded")
        batching = TRAITS.batching if plan.batches else None
        worker = ScriptedWorker(self, crew, Traits(precision="", batching=batching, shrinks=1))
        self.workers.append(worker)
        return worker

    def check(self, holds: bool, what: str) -> None:
        """Note what is wrong; an exception in here would only fail the batch."""
        if not holds:
            self.wrong.append(what)

    def begin(self, worker: ScriptedWorker, jobs: Sequence[Job]) -> tuple[End, int]:
        """Note that a batch begins."""
        self.busy += 1
        limits, numbers = self.plan.limits, [number(job) for job in jobs]
        pixels = sum(job.image.size.pixels for job in jobs)
        self.check(self.busy <= self.scheduler.running <= self.plan.slots, "too many batches")
        self.check(not worker.busy, "two batches in one worker")
        self.check(len(jobs) <= limits.max_jobs, "too many jobs")
        self.check(len(jobs) == 1 or pixels <= limits.max_pixels, "too many pixels")
        self.check(len({worker.crew.key(job) for job in jobs}) == 1, "a batch of two keys")
        self.check({self.crew_of[n] for n in numbers} == {worker.crew}, "another crew's worker")
        for job in jobs:
            before = self.ends.setdefault(number(job), [])
            self.check(set(before) <= set(LOST), "run again after an answer")
            self.check(len(before) < MAX_ATTEMPTS, "run too often")
            self.check(not before or len(jobs) == 1, "run again in company")
            self.check(self.loop.time() <= job.deadline_s, "run after its deadline")
            self.shrinks.setdefault(number(job), []).append(job.shrink)
        self.check(not self.gone.intersection(numbers), "run after its caller left")
        return next(self.runs, ("answer", 1))

    def note(self, jobs: Sequence[Job], end: End) -> None:
        """Note how a batch ended."""
        for job in jobs:
            self.ends[number(job)].append(end)

    async def submit(self, index: int, plan: JobPlan) -> Outcome:
        """Send a job in its time."""
        await asyncio.sleep(plan.at_s)
        crew = self.crew_of[index] = self.crews[plan.crew % len(self.crews)]
        until_s = NEVER
        if plan.deadline_after_s is not None:
            until_s = self.loop.time() + plan.deadline_after_s
        made = make_job(
            index, model=crew.model, caller=plan.caller, deadline_s=until_s, side=plan.side
        )
        self.sent.add(index)
        try:
            return await self.scheduler.submit(made, crew)
        except DeadlineExceededError:
            self.check(self.loop.time() >= until_s, "late before its deadline")
            raise
        finally:
            self.check(self.loop.time() <= until_s, "answered after its deadline")

    def leave(self, index: int, task: "asyncio.Task[Outcome]") -> None:
        """Let a caller leave, who may have been answered."""
        if task.cancel():
            self.gone.add(index)

    def fall(self, which: int) -> None:
        """End one of the workers that are there, whether it runs or not."""
        alive = [worker for worker in self.workers if not worker.ended.done()]
        if alive:
            alive[which % len(alive)].fall()

    async def finish(self, tasks: "Sequence[asyncio.Task[Outcome]]") -> None:
        """Wait until all are answered and nothing runs, then let the workers go."""
        if tasks:
            await asyncio.wait(tasks)
        self.check(len(self.scheduler) == 0, "somebody is left in the queue")
        await asyncio.sleep(LONG_S)  # batches whose callers have left may run on
        self.check(self.scheduler.running == 0, "a batch never ended")
        await self._dismiss()

    async def close(self, tasks: "Sequence[asyncio.Task[Outcome]]") -> None:
        """Close all, as a server that stops does; those who are not answered yet never are."""
        self.unlucky = {index for index, task in enumerate(tasks) if not task.done()}
        for index in self.unlucky - self.sent:
            tasks[index].cancel()
        await self.scheduler.close()
        self.check(self.scheduler.running == len(self.scheduler) == 0, "something goes on")
        await self._dismiss()
        self.check(all(task.done() for task in tasks), "somebody still waits")

    async def _dismiss(self) -> None:
        for crew in self.crews:
            await crew.dismiss()
        await asyncio.sleep(0)

    # What the scheduler and the crews ask and tell.

    def limits(self, crew: Crew) -> BatchLimits:
        del crew
        return self.plan.limits

    def expected_s(self, job: Job) -> float:
        del job
        return 1.0

    def ran(self, crew: Crew, worker: Worker, jobs: Sequence[Job], seconds: float) -> None:
        del worker, jobs
        self.check(crew in self.crews and seconds >= 0, "an odd run")

    def gave_up(self, crew: Crew, error: Exception) -> None:
        del crew, error
        self.given_up += 1

    def changed(self, crew: Crew) -> None:
        del crew
        self.scheduler.wake()

    def failed(self, crew: Crew, error: Exception) -> None:
        self.scheduler.fail(crew, error)
