"""Model id to worker and queue: loads on first use, admits, drains. Implements ``Runner``."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.request import Job, Outcome
from calotype.errors import (
    CalotypeError,
    ConfigError,
    ModelCrashedError,
    ModelLoadingError,
    QueueFullError,
    ShuttingDownError,
)
from calotype.execution.history import History
from calotype.execution.policy import BatchLimits
from calotype.execution.scheduler import Scheduler
from calotype.execution.worker import Worker
from calotype.observe import metrics

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """A model that is loaded, or on its way."""

    worker: Worker
    loading: asyncio.Task[Scheduler]
    started_s: float


class Pool:
    """Runs jobs of many models on one device.

    Args:
        make_worker: makes the worker of a model, not loaded yet.
        history: remembers how long loads and jobs took.
        queue_size: jobs that may wait or run, all models together.
        hold_s: seconds that a request waits for a loading model if it didn't ask to.
        limits: bounds on a batch.
    """

    def __init__(
        self,
        make_worker: Callable[[ModelSpec], Worker],
        history: History,
        *,
        queue_size: int,
        hold_s: float,
        limits: BatchLimits,
    ) -> None:
        self._make_worker, self._history, self._limits = make_worker, history, limits
        self._queue_size, self._hold_s = queue_size, hold_s
        self._entries: dict[str, _Entry] = {}
        self._failed: set[str] = set()
        self._slot = asyncio.Semaphore(1)
        self._admitted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def submit(self, job: Job) -> Outcome:
        """Run one job.

        Raises:
            ShuttingDownError: the pool drains.
            QueueFullError: too many jobs wait.
            ModelLoadingError: the model takes longer to load than the job waits.
            ConfigError: the model can't be loaded.
            BackendError: the model failed on the job.
        """
        self.check()
        self._admitted += 1
        self._idle.clear()
        metrics.QUEUE.set(self._admitted)
        try:
            scheduler = await self._loaded(job)
            outcome = await scheduler.submit(job)
        finally:
            self._admitted -= 1
            metrics.QUEUE.set(self._admitted)
            if not self._admitted:
                self._idle.set()
        metrics.INFERENCE.labels(job.model.id).observe(outcome.inference_s)
        metrics.WAIT.labels(job.model.id).observe(outcome.queue_s)
        return outcome

    def check(self) -> None:
        """Refuse what can't be taken now.

        Raises:
            ShuttingDownError: the pool drains.
            QueueFullError: too many jobs wait.
        """
        if self._draining:
            raise ShuttingDownError("the server is shutting down", retry_after_s=5)
        if self._admitted >= self._queue_size:
            wait_s = self._history.service_s() * self._admitted
            raise QueueFullError(
                f"busy: {self._admitted} requests are waiting, which is the most that may",
                retry_after_s=max(1.0, wait_s),
            )

    def status(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model."""
        entry = self._entries.get(model.id)
        load_s = self._history.load_s(model)
        if entry is None:
            failed = model.id in self._failed
            return ModelStatus(state="failed" if failed else "unloaded", estimated_load_s=load_s)
        if not entry.loading.done():
            left_s = max(0.0, load_s - (time.monotonic() - entry.started_s))
            return ModelStatus(state="loading", estimated_load_s=left_s)
        return ModelStatus(state="loaded", precision=entry.worker.precision)

    @property
    def draining(self) -> bool:
        """Whether no more work is taken."""
        return self._draining

    async def load(self, model: ModelSpec) -> None:
        """Load a model now.

        Raises:
            CalotypeError: it can't be loaded.
        """
        await asyncio.shield(self._entry(model).loading)

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish, and give its memory back; nothing if it isn't loaded."""
        entry = self._entries.pop(model.id, None)
        if entry is not None:
            (await entry.loading).close()
            entry.worker.close()

    def refuse(self) -> None:
        """Take no more jobs; those that are in go on."""
        self._draining = True

    async def settle(self, grace_s: float) -> bool:
        """Wait until no job is left; False if some are after that many seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop whatever still runs, and let go of all models."""
        self._draining = True
        for entry in self._entries.values():
            if entry.loading.done() and not entry.loading.exception():
                entry.loading.result().close()
            entry.loading.cancel()
            entry.worker.close()
        self._entries.clear()

    def kill(self) -> None:
        """End all workers at once, without waiting for anything."""

    async def _loaded(self, job: Job) -> Scheduler:
        """Return the model's queue, waiting for the model as long as the job does."""
        entry = self._entry(job.model)
        if entry.loading.done():
            return entry.loading.result()
        patience_s = None if job.wait_for_model else self._hold_s
        try:
            return await asyncio.wait_for(asyncio.shield(entry.loading), patience_s)
        except TimeoutError:
            left_s = self.status(job.model).estimated_load_s or 1.0
            name = job.model.name
            raise ModelLoadingError(
                f"Model {name} is currently loading", retry_after_s=left_s
            ) from None

    def _entry(self, model: ModelSpec) -> _Entry:
        """Return the model's entry, beginning to load it if it isn't."""
        entry = self._entries.get(model.id)
        if entry is None:
            worker = self._make_worker(model)
            task = asyncio.create_task(self._load(model, worker), name=f"load-{model.id}")
            # A load that nobody waits for any more must not complain on its own.
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            entry = self._entries[model.id] = _Entry(worker, task, time.monotonic())
        return entry

    async def _load(self, model: ModelSpec, worker: Worker) -> Scheduler:
        """Load a model; one that fails is forgotten, so that the next request tries again."""
        started_s = time.monotonic()
        try:
            await worker.load()
        except Exception as error:
            worker.close()
            self._entries.pop(model.id, None)
            self._failed.add(model.id)
            metrics.LOAD_FAILURES.labels(model.id).inc()
            logger.exception("model %s can't be loaded", model.id)
            if isinstance(error, ConfigError | CalotypeError):
                raise
            raise ModelCrashedError(f"{model.id} can't be loaded: {error!r}") from error
        took_s = time.monotonic() - started_s
        self._failed.discard(model.id)
        self._history.loaded(model, took_s)
        metrics.LOAD.labels(model.id).observe(took_s)
        logger.info("loaded %s in %.2f s, precision %s", model.id, took_s, worker.precision)
        return Scheduler(worker, self._slot, self._limits, self._history.served)
