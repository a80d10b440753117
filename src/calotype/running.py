"""What runs jobs on this machine: the pool and its workers, as the settings say."""

import logging
import os
import socket
from collections.abc import Callable

from calotype.backends.base import Backend, Diffusion, Machine
from calotype.catalog.catalog import Catalog
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidSettingError
from calotype.execution.admission import Capacity
from calotype.execution.history import History
from calotype.execution.load import load_model
from calotype.execution.memory import machine_bytes
from calotype.execution.policy import BatchLimits
from calotype.execution.pool import Pool
from calotype.execution.process import Patience, ProcessWorker
from calotype.execution.roster import Bounds
from calotype.execution.thread import ThreadWorker
from calotype.execution.worker import Worker
from calotype.observe.trace import Tracer
from calotype.settings import Settings

MAX_BATCH_JOBS = 8
MAX_BATCH_PIXELS = 4_000_000
MEMORY_SHARE = 0.75
"""Of the machine's memory, for models where the settings don't say."""

logger = logging.getLogger(__name__)


def make_pool(
    settings: Settings,
    catalog: Catalog,
    tracer: Tracer | None = None,
    make_worker: Callable[[ModelSpec], Worker] | None = None,
) -> Pool:
    """Join what runs the jobs on this machine.

    Args:
        settings: what the operator decided.
        catalog: the models.
        tracer: tells a collector of jobs; None: nobody is told.
        make_worker: default as the settings say.

    Raises:
        UnknownModelError: a model is pinned that isn't there.
        InvalidSettingError: the priorities can't be read.
    """
    return Pool(
        make_worker or worker_maker(settings),
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
        tracer=tracer,
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
