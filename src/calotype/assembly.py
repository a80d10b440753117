"""The one place where concrete classes are chosen and joined."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette

from calotype.api.app import JOBS_S, create_app
from calotype.api.control import Control
from calotype.api.door import make_door
from calotype.catalog.adapter import adapters_stamp
from calotype.catalog.catalog import Catalog, build_catalog
from calotype.catalog.supply import Find, Supply, find_models
from calotype.codec.encode import EncodeOptions
from calotype.codec.service import Codec, Limits
from calotype.domain.request import Stage
from calotype.keeping import make_cache, make_flights, open_store, settle
from calotype.observe.trace import Tracer, open_tracer
from calotype.pipeline import Pipeline, Runner
from calotype.running import make_pool, named
from calotype.settings import Settings
from calotype.store.client import Store
from calotype.strips import Strips


class Executor(Runner, Control, Protocol):
    """What jobs are run by: the pool here, or the replicas of a cluster."""

    def refuse(self) -> None:
        """Take no more jobs; those that are in go on."""
        ...

    async def settle(self, grace_s: float) -> bool:
        """Wait until no job is left; False if some are after that many seconds."""
        ...

    async def close(self) -> None:
        """Stop whatever still runs."""
        ...

    def kill(self) -> None:
        """End what runs at once, without waiting for anything; from any thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a server, or the library, is made of."""

    settings: Settings
    catalog: Catalog
    pipeline: Pipeline
    pool: Executor
    strips: Strips
    store: Store | None = None
    """What this server shares with others."""
    tracer: Tracer | None = None
    """Tells a collector of requests."""

    async def start(self) -> None:
        """Load what the settings say, before the first request.

        Raises:
            CalotypeError: a model is unknown or can't be loaded.
        """
        if self.store is not None:
            await self.store.check()
        for spec in named(self.settings.preload, self.catalog):
            await self.pool.load(spec)

    def refuse(self) -> None:
        """Take no more requests; those that are in go on."""
        self.pool.refuse()

    async def settle(self) -> bool:
        """Let running requests finish; False if some didn't within the time that settings give."""
        return await self.pool.settle(self.settings.drain_s)

    async def stop(self) -> None:
        """Stop whatever still runs, and let go of the models."""
        await self.pool.close()
        await settle(self.pipeline.cache, self.pipeline.flights)
        if self.tracer is not None:
            await self.tracer.close()

    async def close(self) -> None:
        """Stop, and let go of what other servers share."""
        await self.stop()
        if self.store is not None:
            await self.store.close()


def open_catalog(settings: Settings) -> Catalog:
    """Read every model that the settings name.

    Raises:
        ConfigError: a catalog file is wrong, or the default model is in none.
    """
    file = Path(settings.catalog_file) if settings.catalog_file else None
    return build_catalog(file, settings.models_path, settings.default_model)


def assemble(
    settings: Settings,
    catalog: Catalog | None = None,
    pool: Executor | None = None,
    stamp: Callable[[Stage], str] | None = None,
) -> Services:
    """Join the parts.

    Args:
        settings: what the operator decided.
        catalog: the models; default those that the settings name.
        pool: what runs the jobs; default processes of this machine.
        stamp: which version of adapters a request names; default those of this machine.

    Raises:
        ConfigError: the settings name something that isn't there.
    """
    catalog = catalog or open_catalog(settings)
    store = open_store(settings)
    cache = make_cache(settings, store)
    tracer = open_tracer(settings.trace_url, settings.trace_share)
    pool = pool or make_pool(settings, catalog, tracer)
    codec = Codec(
        limits=Limits(max_pixels=settings.max_pixels, max_output_pixels=settings.max_output_pixels),
        options=EncodeOptions(
            jpeg_quality=settings.jpeg_quality,
            webp_quality=settings.webp_quality,
            png_effort=settings.png_effort,
        ),
        keep_metadata=settings.keep_metadata,
    )
    adapters = settings.loras_path
    pipeline = Pipeline(
        catalog=catalog,
        cache=cache,
        flights=make_flights(cache, store),
        runner=pool,
        codec=codec,
        kind=_kind(settings),
        stamp=stamp or (lambda stage: adapters_stamp(adapters, stage.values)),
    )
    return Services(
        settings=settings,
        catalog=catalog,
        pipeline=pipeline,
        pool=pool,
        strips=Strips(pipeline=pipeline),
        store=store,
        tracer=tracer,
    )


def create_server(
    services: Services, find: Find | None = None, jobs_s: float = JOBS_S, *, closed: bool = False
) -> Starlette:
    """Put the HTTP server in front of the parts.

    Args:
        services: the parts.
        find: finds models that nobody has named before; default on the Hub.
        jobs_s: what jobs get to be done when the server ends; by default, they have had ``settle``.
        closed: there are tokens, whatever the store says.

    Raises:
        ConfigError: the token file is damaged.
    """
    find = find or partial(find_models, folder=services.settings.models_path)
    supply = Supply(services.catalog, find)
    door = make_door(services.settings, services.store, closed=closed)
    return create_app(
        pipeline=services.pipeline,
        supply=supply if services.settings.allow_pull else None,
        control=services.pool,
        settings=services.settings,
        authenticator=door.authenticator,
        limiter=door.limiter,
        tokens=door.copy,
        start=services.start,
        stop=services.stop,
        jobs_s=jobs_s,
        tracer=services.tracer,
        store=services.store,
    )


def _kind(settings: Settings) -> str:
    """Name what changes answers beside the requests, so that others are never found."""
    return (
        f"{settings.precision}-j{settings.jpeg_quality}-w{settings.webp_quality}"
        f"-p{settings.png_effort}{'-m' if settings.keep_metadata else ''}"
        f"-{settings.diffusion_device}-{settings.diffusion_engine}-{settings.safety}"
    )
