"""Workers that do what a test tells them, and a clock that it moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from calotype.backends.base import Batching
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec, WeightFile
from calotype.domain.request import Job, ParamValue
from calotype.execution.admission import Capacity
from calotype.execution.crew import Crew
from calotype.execution.history import History
from calotype.execution.policy import BatchLimits
from calotype.execution.pool import Pool
from calotype.execution.roster import Bounds, Roster
from calotype.execution.worker import Answer, Traits, Usage, Worker

MB = 1_000_000
PLENTY = 10**12
TWO = 250 * MB
"""Room for two models of the size that is guessed, and scripted: 100 MB."""
FILES = Path("/proc/self/fd")


def spec(name: str = "net", *, size_bytes: int = 0, scale: int | None = None) -> ModelSpec:
    """Make a model whose files have a size; without one, its first guess is 100 MB."""
    files = (WeightFile(role="w", package="", path="w", sha256="", size_bytes=size_bytes),)
    return ModelSpec(
        id=f"org/{name}", alias=name, backend="fake", revision="1", files=files, scale=scale
    )


def job(
    model: ModelSpec,
    value: int = 0,
    *,
    size: tuple[int, int] = (2, 2),
    wait: bool = True,
    hooks: Hooks | None = None,
    **params: ParamValue,
) -> Job:
    """Make a job of one colour."""
    return Job(
        model=model,
        image=Image(np.full((*size, 3), value, np.uint8)),
        params=params,
        wait_for_model=wait,
        hooks=hooks or Hooks(),
    )


class Clock:
    """Monotonic seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def opened() -> asyncio.Event:
    """Make an event that is set."""
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Part:
    """What the workers of a model do, and what they did."""

    resident_bytes: int = 100 * MB
    peak: Callable[[Sequence[Job]], int] = lambda _: 0
    scale: int = 1
    """By which results are larger, if the model doesn't say it."""
    run_s: float = 0.0
    """By which a run moves the clock."""
    grow_bytes: int = 0
    """That a run leaves behind in its worker."""
    load_errors: list[Exception] = field(default_factory=list)
    """What the next loads fail with."""
    run_errors: list[Exception | None] = field(default_factory=list)
    """What the next runs fail with, their worker lost."""
    may_load: asyncio.Event = field(default_factory=opened)
    may_run: asyncio.Event = field(default_factory=opened)
    may_close: asyncio.Event = field(default_factory=opened)
    loading: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Event = field(default_factory=asyncio.Event)
    loads: int = 0
    runs: list[list[Job]] = field(default_factory=list)


class Stage:
    """Makes scripted workers, and sees all that they do."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.history = History()
        self.parts: dict[str, Part] = {}
        self.alive: list[ScriptedWorker] = []
        self.most_bytes = 0
        """The most memory that the workers ever held, those included that were being loaded."""

    def part(self, model: ModelSpec) -> Part:
        """Return what the workers of a model do."""
        return self.parts.setdefault(model.id, Part())

    def make_worker(self, model: ModelSpec) -> Worker:
        """Make a worker, not loaded yet."""
        return ScriptedWorker(model, self.part(model), self)

    def loaded(self) -> list[str]:
        """Return the names of the models that have workers."""
        return [worker.model.name for worker in self.alive]

    @contextlib.asynccontextmanager
    async def pool(
        self,
        *,
        jobs: int = 100,
        picture_bytes: int = PLENTY,
        hold_s: float = 5.0,
        slots: int = 1,
        max_jobs: int = 4,
        budget_bytes: int = PLENTY,
        pinned: frozenset[str] = frozenset(),
        idle_s: float = 0.0,
    ) -> AsyncIterator[Pool]:
        """Open a pool over scripted workers; none of them may be left when it is closed."""
        pool = Pool(
            self.make_worker,
            self.history,
            Capacity(
                jobs=jobs,
                picture_bytes=picture_bytes,
                hold_s=hold_s,
                batch=BatchLimits(max_jobs=max_jobs, max_pixels=PLENTY, max_wait_s=0.0),
                slots=slots,
            ),
            Bounds(budget_bytes=budget_bytes, pinned=pinned, idle_s=idle_s),
            self.clock,
        )
        try:
            yield pool
        finally:
            await pool.close()
        assert self.loaded() == []


class ScriptedWorker:
    """A worker that does what its part says."""

    def __init__(self, model: ModelSpec, part: Part, stage: Stage) -> None:
        self.model, self.part, self._stage = model, part, stage
        self.traits = Traits(precision="none (scripted)", batching=Batching(), shrinks=2)
        self.usage = Usage()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def load(self) -> None:
        self._stage.alive.append(self)
        held = sum(worker.part.resident_bytes for worker in self._stage.alive)
        self._stage.most_bytes = max(self._stage.most_bytes, held)
        self.part.loads += 1
        self.part.loading.set()
        await self.part.may_load.wait()
        if self.part.load_errors:
            raise self.part.load_errors.pop(0)
        self.usage = Usage(resident_bytes=self.part.resident_bytes)

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        self.part.runs.append(list(jobs))
        self.part.running.set()
        await self.part.may_run.wait()
        self._stage.clock.now_s += self.part.run_s
        error = self.part.run_errors.pop(0) if self.part.run_errors else None
        if error is not None:
            self.die()
            raise error
        rest_bytes, peak_bytes = self.usage.resident_bytes, self.part.peak(jobs)
        self.usage = replace(self.usage, rest_bytes=rest_bytes, peak_bytes=peak_bytes)
        self.grow(self.part.grow_bytes)
        return [self._answer(job) for job in jobs]

    async def close(self) -> None:
        await self.part.may_close.wait()
        self.die()

    def kill(self) -> None:
        self.die()

    def grow(self, more_bytes: int) -> None:
        """Hold more memory than before."""
        held = self.usage.resident_bytes + more_bytes
        self.usage = replace(self.usage, resident_bytes=held)

    def die(self) -> None:
        """End, as if the system had killed it."""
        if not self.ended.done():
            self.ended.set_result(None)
            self.usage = Usage()
            self._stage.alive.remove(self)

    def _answer(self, job: Job) -> Answer:
        if job.hooks.cancelled:
            return JobCancelledError("nobody waits")
        scale = job.model.scale or self.part.scale
        return Image(job.image.pixels.repeat(scale, 0).repeat(scale, 1))


@contextlib.contextmanager
def leaving_no_descriptor() -> Iterator[None]:
    """Check that as many files are open afterwards as before."""
    before = len(list(FILES.iterdir()))
    yield
    assert len(list(FILES.iterdir())) == before


async def turns(count: int = 30) -> None:
    """Let everything happen that needs nothing but the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Scene:
    """A roster, and what it tells."""

    roster: Roster
    stage: Stage
    failed: list[tuple[Crew, Exception]] = field(default_factory=list)

    async def load(self, *models: ModelSpec) -> None:
        """Use models one after the other, a second apart."""
        for model in models:
            self.stage.clock.now_s += 1
            await self.roster.crew(model).ready

    def crew(self, model: ModelSpec) -> Crew:
        """Return the crew of a model that has one."""
        found = self.roster.find(model)
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def rostering(
    budget_bytes: int = TWO, *, pinned: str = "", idle_s: float = 0.0, replicas: int = 1
) -> AsyncIterator[Scene]:
    """Open a roster over scripted workers; none of them may be left when it is closed."""
    stage, failed = Stage(), list[tuple[Crew, Exception]]()
    bounds = Bounds(
        budget_bytes=budget_bytes,
        pinned=frozenset(f"org/{name}" for name in pinned),
        idle_s=idle_s,
        replicas=replicas,
    )
    roster = Roster(
        stage.make_worker,
        stage.history,
        bounds,
        on_change=lambda: None,
        on_failure=lambda crew, error: failed.append((crew, error)),
        clock=stage.clock,
    )
    try:
        yield Scene(roster, stage, failed)
    finally:
        await roster.close()
    assert stage.loaded() == [], "a worker was left behind"
