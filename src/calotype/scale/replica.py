"""A replica of models on a cluster: the pool of one machine, behind a deployment handle."""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import ray
from ray import serve

from calotype.catalog.catalog import Catalog
from calotype.domain.event import Progress
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.environment import hide_from_children
from calotype.errors import CalotypeError
from calotype.execution.place import crash_of
from calotype.execution.pool import Pool
from calotype.observe import logs
from calotype.observe.trace import open_tracer
from calotype.running import make_pool, named, worker_maker
from calotype.scale.cargo import Cargo, Fact, Failed, Landed, News, Note
from calotype.scale.localized import MakeWorker, localizing
from calotype.scale.node import MALLOC, warn_of_missing
from calotype.scale.numbers import own_page
from calotype.scale.weights import NodeWeights
from calotype.scale.weights_source import RemoteSource
from calotype.settings import Settings

logger = logging.getLogger(__name__)

LINGER_S = 0.02
"""How long news wait for more."""
SEATS = 64
"""Models that a replica tells the others that it has run."""


class Replica:
    """Runs jobs of its models; Ray Serve makes it, on a loop of its own.

    Args:
        settings: as on one machine; ``preload`` names what it loads before it takes jobs.
        models: what it is there for.
        spread: whether their files may be on another node.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve waits for it
        self, settings: Settings, models: tuple[ModelSpec, ...], *, spread: bool
    ) -> None:
        logs.set_up(settings.log_level, settings.log_format)
        warn_of_missing()
        hide_from_children(MALLOC)
        settings = replace(settings, threads=_cpus() or settings.threads)
        catalog = Catalog(models)
        self._tracer = open_tracer(settings.trace_url, settings.trace_share)
        make_worker = _localizing(settings) if spread else None
        self._pool: Pool = make_pool(settings, catalog, self._tracer, make_worker)
        for spec in named(settings.preload, catalog):
            await self._warm(spec)

    async def run(self, cargo: Cargo) -> AsyncIterator[list[News]]:
        """Run a job, and tell of it; its end comes last. Whoever leaves takes it along."""
        logs.REQUEST_ID.set(cargo.request_id)
        if (chosen := serve.get_multiplexed_model_id()) != "":
            await self.seat(chosen)
        desk = _Desk()
        task = asyncio.create_task(self._serve(cargo, desk))
        try:
            while not desk.is_over:
                yield await desk.next()
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def state(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model here."""
        return self._pool.status(model)

    async def load(self, model: ModelSpec) -> ModelStatus | CalotypeError:
        """Load a model now."""
        try:
            await self._pool.load(model)
        except CalotypeError as error:
            return error
        return self._pool.status(model)

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish, and give its memory back."""
        await self._pool.unload(model)

    async def numbers(self) -> tuple[str, bytes]:
        """Return the name of this process, and its metrics."""
        return own_page()

    @serve.multiplexed(max_num_models_per_replica=SEATS)  # type: ignore[untyped-decorator]
    async def seat(self, model_id: str) -> str:
        """Note that a model is run here, so that its next jobs come here too."""
        return model_id

    async def __del__(self) -> None:
        """End the models' processes; Ray Serve has let the jobs finish."""
        with contextlib.suppress(AttributeError):  # it may never have begun
            await self._pool.close()
            if self._tracer is not None:
                await self._tracer.close()

    async def _warm(self, spec: ModelSpec) -> None:
        """Load a model; one that can't be loaded tells so to each of its jobs."""
        try:
            await self._pool.load(spec)
        except CalotypeError as error:
            logger.error("%s could not be loaded: %s", spec.id, error)  # noqa: TRY400  the pool did

    async def _serve(self, cargo: Cargo, desk: "_Desk") -> None:
        """Run a job, and say how it ended."""
        try:
            outcome = await self._pool.submit(cargo.job(desk.hooks))
        except Exception as error:
            if not isinstance(error, CalotypeError):
                logger.exception("a job failed")
                error = crash_of(error)
            desk.tell(Failed(error, self._pool.status(cargo.model)))
        else:
            desk.tell(Landed(outcome=outcome, status=self._pool.status(cargo.model)))


def _cpus() -> int:
    """Return how many processors this replica has reserved; 0: none, and all are there for it."""
    assigned: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return math.ceil(assigned.get("CPU", 0.0))


def _localizing(settings: Settings) -> MakeWorker:
    """Return what makes workers whose files come from the node that has them."""
    weights = NodeWeights(settings.cache_path, RemoteSource())
    own = replace(settings, loras_dir=str(weights.adapters_dir))
    return localizing(worker_maker(own), weights)


class _Desk:
    """Where a job's news wait to be sent; of progress, only the last."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news, self._came = list[News](), asyncio.Event()
        self._ended = asyncio.Event()
        self.hooks = _Hooks(self)

    def tell(self, news: News) -> None:
        """Add some; from any thread."""
        self._loop.call_soon_threadsafe(self._add, news)

    @property
    def is_over(self) -> bool:
        """Whether the end was taken."""
        return self._ended.is_set() and not self._news

    async def next(self) -> list[News]:
        """Wait for some; each message costs, so that a quick job's are sent with its end."""
        await self._came.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._ended.wait()
        news = list(self._news)
        self._news.clear()
        self._came.clear()
        return news

    def _add(self, news: News) -> None:
        if self._news and isinstance(news, Progress) and isinstance(self._news[-1], Progress):
            self._news[-1] = news
        else:
            self._news.append(news)
        self._came.set()
        if isinstance(news, Landed | Failed):
            self._ended.set()


class _Hooks(Hooks):
    """Sends all that happens to a job on its way."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__(on_event=desk.tell)
        self._desk = desk

    def note(self, text: str) -> None:
        """Send a warning."""
        self._desk.tell(Note(text))

    def tell(self, name: str, value: str) -> None:
        """Send a fact."""
        self._desk.tell(Fact(name, value))
