"""Runs jobs of many models on one device. Implements ``Runner`` and ``Control``."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from calotype.domain.event import Loading
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.request import Job, Outcome
from calotype.errors import (
    ForbiddenError,
    ModelCrashedError,
    ModelLoadingError,
    RequestCancelledError,
)
from calotype.execution.admission import Admission, Capacity
from calotype.execution.budget import (
    Footprint,
    Notes,
    fitting_shrink,
    largest_pixels,
    may_grow,
    picture_bytes,
)
from calotype.execution.crew import Crew
from calotype.execution.history import History
from calotype.execution.policy import BatchLimits
from calotype.execution.roster import Bounds, Roster
from calotype.execution.scheduler import Scheduler
from calotype.execution.trail import followed
from calotype.execution.worker import Worker
from calotype.observe import metrics
from calotype.observe.trace import Tracer

logger = logging.getLogger(__name__)

HOPELESS_JOBS = 3
"""After so many jobs in a row that took their workers along twice, the model rests."""


class Pool:
    """Admits jobs, loads their models, and runs them in turn; belongs to one event loop.

    Args:
        make_worker: makes the worker of a model, not loaded yet.
        history: what was measured before.
        capacity: how much is taken.
        bounds: what loaded models may take.
        clock: monotonic seconds.
        tracer: goes on with the traces that jobs are parts of; None: they leave no spans.
    """

    def __init__(
        self,
        make_worker: Callable[[ModelSpec], Worker],
        history: History,
        capacity: Capacity,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
        *,
        tracer: Tracer | None = None,
    ) -> None:
        self._history, self._capacity, self._clock = history, capacity, clock
        self._tracer = tracer
        self._admission = Admission(
            jobs=capacity.jobs, picture_bytes=capacity.picture_bytes, slots=capacity.slots
        )
        self._scheduler = Scheduler(self, capacity.slots, capacity.priorities, clock)
        self._roster = Roster(
            make_worker,
            history,
            bounds,
            on_change=self._scheduler.wake,
            on_failure=self._scheduler.fail,
            clock=clock,
        )
        self._notes: dict[str, Notes] = {}

    async def submit(self, job: Job) -> Outcome:
        """Run one job.

        Raises:
            ShuttingDownError: the pool drains.
            QueueFullError: too much is in work.
            ModelLoadingError: the model takes longer to load than the job waits.
            ForbiddenError: the model is too large for the memory budget.
            PayloadTooLargeError: the picture is.
            ConfigError: the model can't be loaded.
            BackendError: the model failed on the job.
            DeadlineExceededError: the job's deadline passed.
        """
        if self._tracer is None:
            return await self._run(job)
        return await followed(self._run, job, self._tracer)

    def check(self) -> None:
        """Refuse what can't be taken now.

        Raises:
            ShuttingDownError: the pool drains.
            QueueFullError: too much is in work.
        """
        self._admission.check()

    def status(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model."""
        crew, load_s = self._roster.find(model), self._history.load_s(model)
        if crew is not None and crew.workers and crew.traits:
            return ModelStatus(
                state="loaded",
                device=crew.traits.device,
                precision=crew.traits.precision,
                resident_bytes=crew.resident_bytes or None,
            )
        if crew is not None:
            left_s = max(0.0, load_s - (self._clock() - self._roster.load_began_s(model)))
            return ModelStatus(state="loading", estimated_load_s=left_s)
        rest = self._roster.rest
        if rests_s := rest.left_s(model):  # once that is over, it is as good as never tried
            return ModelStatus(
                state="failed",
                estimated_load_s=load_s,
                reason=rest.reason(model),
                retry_after_s=rests_s,
            )
        try:
            self._roster.check_size(model)
        except ForbiddenError as error:
            return ModelStatus(state="too_large", reason=str(error))
        return ModelStatus(state="unloaded", estimated_load_s=load_s)

    @property
    def draining(self) -> bool:
        """Whether no more work is taken."""
        return self._admission.draining

    async def load(self, model: ModelSpec) -> None:
        """Load a model now.

        Raises:
            RequestCancelledError: it was unloaded meanwhile.
            CalotypeError: it can't be loaded.
        """
        self._roster.rest.succeeded(model)  # who asks for it by name has mended what was wrong
        crew = self._roster.crew(model)
        crew.enter()
        try:
            if not await self._loaded(crew):
                self._roster.check_open()
                raise RequestCancelledError(f"Model {model.name} was unloaded while it was loaded")
        finally:
            crew.leave()

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish, and give its memory back; nothing if it isn't loaded."""
        await self._roster.unload(model)

    async def numbers(self) -> bytes:
        """Return the metrics of this process, which are all that there are."""
        return metrics.exposition()

    def refuse(self) -> None:
        """Take no more jobs; those that are in go on."""
        self._admission.draining = True

    async def settle(self, grace_s: float) -> bool:
        """Wait until no job is left; False if some are after that many seconds."""
        return await self._admission.settle(grace_s)

    async def close(self) -> None:
        """Stop whatever still runs, and let go of all models."""
        self.refuse()
        await self._scheduler.close()
        await self._roster.close()

    def kill(self) -> None:
        """End all workers at once, without waiting for anything; from any thread."""
        self._roster.kill()

    def limits(self, crew: Crew) -> BatchLimits:
        """Bound a batch by what the memory holds."""
        footprint = self._footprint(crew)
        if not footprint.work_bytes:
            return self._capacity.batch
        # Each job was given a tile that fits it alone, most of them the whole one.
        whole, room = replace(footprint, shrinks=0), self._roster.room_bytes(crew)
        most = largest_pixels(self._scale(crew.model) or 1.0, whole, room)
        return replace(self._capacity.batch, max_pixels=min(self._capacity.batch.max_pixels, most))

    def expected_s(self, job: Job) -> float:
        """Return how long a job will keep the device busy."""
        return self._history.service_s(job.model)

    def ran(self, crew: Crew, worker: Worker, jobs: Sequence[Job], seconds: float) -> None:
        """Note how long a batch took, and how much memory."""
        metrics.BATCH.labels(crew.model.id).observe(len(jobs))
        for _ in jobs:
            self._history.served(crew.model, seconds / len(jobs))
        usage, scale = worker.usage, self._scale(crew.model, jobs[0])
        if usage.rest_bytes:
            crew.rest_bytes = usage.rest_bytes
            self._history.rested(crew.model, usage.rest_bytes)
        if not usage.peak_bytes or jobs[0].shrink or not scale:
            return
        rest = usage.rest_bytes or self._history.measured_bytes(crew.model)
        pictures = picture_bytes(sum(job.image.size.pixels for job in jobs), scale)
        self._notes_of(crew.model).work_bytes.append(usage.peak_bytes - rest - pictures)

    def gave_up(self, crew: Crew, error: Exception) -> None:
        """Let a model rest that does nothing but crash."""
        notes = self._notes_of(crew.model)
        notes.hopeless += 1
        if notes.hopeless >= HOPELESS_JOBS:
            notes.hopeless = 0
            crash = ModelCrashedError(f"{error}, {HOPELESS_JOBS} times in a row")
            self._roster.give_up(crew, crash)

    async def _run(self, job: Job) -> Outcome:
        """Run one job."""
        model = job.model
        with self._admission.holding(job, self.expected_s(job)):
            async with self._crew(job) as crew:
                outcome = await self._scheduler.submit(await self._fitted(job, crew), crew)
        notes = self._notes_of(model)
        notes.hopeless = 0
        notes.scale = (outcome.image.size.pixels / job.image.size.pixels) ** 0.5
        metrics.INFERENCE.labels(model.id).observe(outcome.inference_s)
        metrics.WAIT.labels(model.id).observe(outcome.queue_s)
        return outcome

    @contextlib.asynccontextmanager
    async def _crew(self, job: Job) -> AsyncIterator[Crew]:
        """Hold on to the model's crew, waiting for the model as long as the job does."""
        until_s = self._clock() + self._capacity.hold_s
        while True:
            crew = self._roster.crew(job.model)
            crew.enter()  # before it is loaded, lest it be unloaded at once for another
            try:
                if not crew.ready.done():
                    left_s = self.status(job.model).estimated_load_s or 0.0
                    job.hooks.happened(Loading(left_s))
                patience_s = None if job.wait_for_model else max(0.0, until_s - self._clock())
                if await self._loaded(crew, patience_s):
                    yield crew
                    return
            finally:
                crew.leave()

    async def _loaded(self, crew: Crew, patience_s: float | None = None) -> bool:
        """Wait until a crew has its first worker; False if it was unloaded before that."""
        if not crew.ready.done():
            await asyncio.wait((crew.ready,), timeout=patience_s)
        if not crew.ready.done():
            left_s = self.status(crew.model).estimated_load_s or 1.0
            text = f"Model {crew.model.name} is currently loading"
            raise ModelLoadingError(text, retry_after_s=left_s)
        if crew.ready.cancelled():
            return False
        crew.ready.result()
        return True

    async def _fitted(self, job: Job, crew: Crew) -> Job:
        """Return the job with the tile that the memory has room for, and make that room."""
        footprint, scale = self._footprint(crew), self._scale(job.model, job)
        if not footprint.work_bytes or not scale:
            return job  # nothing is known yet, or nothing can be
        size, room = job.image.size, self._roster.room_bytes(crew)
        shrink = fitting_shrink(size, scale, footprint, room)
        if shrink:
            metrics.SMALLER.labels(job.model.id).inc()
            logger.warning("%s runs with its tile halved %dx: memory", job.model.id, shrink)
        await self._roster.free(footprint.work(shrink) + picture_bytes(size.pixels, scale), crew)
        is_tight = not may_grow(size, scale, footprint, room)
        return replace(job, shrink=max(shrink, job.shrink), keep_tile=is_tight)

    def _footprint(self, crew: Crew) -> Footprint:
        works = self._notes_of(crew.model).work_bytes
        return Footprint(
            resident_bytes=crew.rest_bytes or self._history.measured_bytes(crew.model),
            work_bytes=max(1, *works) if works else 0,
            shrinks=crew.traits.shrinks if crew.traits else 0,
        )

    def _scale(self, model: ModelSpec, job: Job | None = None) -> float:
        """Return size of the result / size of the input: asked for, declared, seen; 0: unknown."""
        asked = job.params.get("scale") if job else None
        if isinstance(asked, int) and not isinstance(asked, bool):
            return float(asked)
        return float(model.scale or self._notes_of(model).scale)

    def _notes_of(self, model: ModelSpec) -> Notes:
        return self._notes.setdefault(model.id, Notes())
