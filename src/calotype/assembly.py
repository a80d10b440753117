"""The one place where concrete classes are chosen and joined."""

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.applications import Starlette

from calotype.api.app import create_app
from calotype.api.auth import Authenticator
from calotype.api.limits import RateLimiter
from calotype.api.tokens import TokenStore
from calotype.backends.base import Backend, Diffusion, Machine
from calotype.cache.disk import DiskCache, TieredCache
from calotype.cache.memory import MemoryCache, NullCache, ResponseCache
from calotype.catalog.adapter import adapters_stamp
from calotype.catalog.catalog import Catalog, build_catalog
from calotype.catalog.supply import Supply, find_models
from calotype.codec.encode import EncodeOptions
from calotype.codec.service import Codec, Limits
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidSettingError
from calotype.execution.history import History
from calotype.execution.load import load_model
from calotype.execution.memory import machine_bytes
from calotype.execution.policy import BatchLimits
from calotype.execution.pool import Capacity, Pool
from calotype.execution.process import Patience, ProcessWorker
from calotype.execution.roster import Bounds
from calotype.execution.thread import ThreadWorker
from calotype.execution.worker import Worker
from calotype.pipeline import Pipeline
from calotype.settings import Settings
from calotype.strips import Strips

TOKENS_FILE = "tokens.sqlite"
MAX_BATCH_JOBS = 8
MAX_BATCH_PIXELS = 4_000_000
MEMORY_SHARE = 0.75
"""Of the machine's memory, for models where the settings don't say."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a server, or the library, is made of."""

    settings: Settings
    catalog: Catalog
    pipeline: Pipeline
    pool: Pool
    strips: Strips

    async def start(self) -> None:
        """Load what the settings say, before the first request.

        Raises:
            CalotypeError: a model is unknown or can't be loaded.
        """
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
        cache = self.pipeline.cache
        if isinstance(cache, TieredCache):
            await cache.settle()  # answers on their way to the disk


def open_catalog(settings: Settings) -> Catalog:
    """Read every model that the settings name.

    Raises:
        ConfigError: a catalog file is wrong, or the default model is in none.
    """
    file = Path(settings.catalog_file) if settings.catalog_file else None
    return build_catalog(file, settings.models_path, settings.default_model)


def assemble(settings: Settings, catalog: Catalog | None = None) -> Services:
    """Join the parts.

    Args:
        settings: what the operator decided.
        catalog: the models; default those that the settings name.

    Raises:
        ConfigError: the settings name something that isn't there.
    """
    catalog = catalog or open_catalog(settings)
    pool = Pool(
        worker_maker(settings),
        History(settings.cache_path / "loads.json"),
        Capacity(
            jobs=settings.queue_size,
            picture_bytes=settings.queue_bytes,
            hold_s=settings.hold_s,
            batch=BatchLimits(max_jobs=MAX_BATCH_JOBS, max_pixels=MAX_BATCH_PIXELS, max_wait_s=0.0),
            slots=settings.slots,
            priorities=_priorities(settings.priorities),
        ),
        Bounds(
            budget_bytes=settings.memory_bytes or int(machine_bytes() * MEMORY_SHARE),
            pinned=frozenset(spec.id for spec in named(settings.pin, catalog)),
            idle_s=settings.idle_s,
            replicas=settings.replicas,
        ),
    )
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
        cache=_cache(settings),
        runner=pool,
        codec=codec,
        kind=_kind(settings),
        stamp=lambda stage: adapters_stamp(adapters, stage.values),
    )
    return Services(
        settings=settings,
        catalog=catalog,
        pipeline=pipeline,
        pool=pool,
        strips=Strips(pipeline=pipeline),
    )


def create_server(services: Services) -> Starlette:
    """Put the HTTP server in front of the parts.

    Raises:
        ConfigError: the token file is damaged.
    """
    folder = services.settings.models_path
    supply = Supply(services.catalog, partial(find_models, folder=folder))
    return create_app(
        pipeline=services.pipeline,
        supply=supply if services.settings.allow_pull else None,
        control=services.pool,
        settings=services.settings,
        authenticator=Authenticator(TokenStore(services.settings.data_path / TOKENS_FILE)),
        limiter=RateLimiter(),
        start=services.start,
        stop=services.stop,
    )


def named(names: str, catalog: Catalog) -> list[ModelSpec]:
    """Return the models of a list with commas.

    Raises:
        UnknownModelError: there is none of a name.
    """
    return [catalog.get(name.strip()) for name in names.split(",") if name.strip()]


def worker_maker(settings: Settings) -> Callable[[ModelSpec], Worker]:
    """Return what makes a model's worker: where the settings say, as far as the system can."""
    machine = machine_of(settings)
    if settings.isolation == "process" and hasattr(socket, "AF_UNIX"):
        patience = Patience(stop_s=settings.stop_s, load_s=settings.load_limit_s)
        return lambda spec: ProcessWorker(spec, machine, patience)
    if settings.isolation == "process":
        logger.warning("this system passes no memory between processes: models run on threads")
    return lambda spec: ThreadWorker(backend_loader(spec, machine), f"model-{spec.name}")


def machine_of(settings: Settings) -> Machine:
    """Return what backends may use."""
    threads = settings.threads
    if not threads and settings.slots > 1:
        threads = max(1, (os.cpu_count() or 1) // settings.slots)
    return Machine(
        cache_dir=settings.cache_path,
        threads=threads,
        max_output_pixels=settings.max_output_pixels,
        precision=settings.precision,  # type: ignore[arg-type]  # checked by Settings
        diffusion=Diffusion(
            device=settings.diffusion_device,  # type: ignore[arg-type]
            engine=settings.diffusion_engine,  # type: ignore[arg-type]
            compile=settings.diffusion_compile,
            offload=settings.diffusion_offload,  # type: ignore[arg-type]
            safety=settings.safety,  # type: ignore[arg-type]
            stage_bytes=settings.stage_cache_bytes,
            loras_dir=settings.loras_path,
        ),
    )


def backend_loader(spec: ModelSpec, machine: Machine) -> Callable[[], Backend]:
    """Return what loads a model in this process."""
    return lambda: load_model(spec, machine)


def _priorities(text: str) -> dict[str, int]:
    """Read ``NAME=NUMBER, ...``.

    Raises:
        InvalidSettingError: it is something else.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = part.rpartition("=")
        try:
            found[name.strip()] = int(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InvalidSettingError(f"priorities must be NAME=NUMBER, ..., got {part!r}")
    return found


def _cache(settings: Settings) -> ResponseCache:
    """Choose where answers are kept."""
    memory = (
        MemoryCache(settings.cache_memory_bytes) if settings.cache_memory_bytes else NullCache()
    )
    if not settings.cache_disk_bytes:
        return memory
    return TieredCache(
        memory, DiskCache(settings.cache_path / "answers", settings.cache_disk_bytes)
    )


def _kind(settings: Settings) -> str:
    """Name what changes answers beside the requests, so that others are never found."""
    return (
        f"{settings.precision}-j{settings.jpeg_quality}-w{settings.webp_quality}"
        f"-p{settings.png_effort}{'-m' if settings.keep_metadata else ''}"
        f"-{settings.diffusion_device}-{settings.diffusion_engine}-{settings.safety}"
    )
