"""What the soak test does to the server from outside: weighs it, and kills its workers."""

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from processes import live_children, tree_bytes

now_s = time.perf_counter
SAMPLE_EVERY_S = 1.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  looked at, not written to


@dataclass(slots=True)
class Watch:
    """What was seen and done; times are those of ``now_s``."""

    tree_bytes: list[tuple[float, int]] = field(default_factory=list)
    server_bytes: list[tuple[float, int]] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    found_none: int = 0
    """How often there was no worker to kill."""


async def weigh(pid: int, watch: Watch) -> None:
    """Note the memory of a server and of all its processes each second, until cancelled."""
    while True:
        server, tree = await asyncio.to_thread(_weigh_once, pid)
        watch.server_bytes.append((now_s(), server))
        watch.tree_bytes.append((now_s(), tree))
        await asyncio.sleep(SAMPLE_EVERY_S)


def _weigh_once(pid: int) -> tuple[int, int]:
    """Return the memory of the server, and that of it and all its processes together.

    The server's own is what it has resident: its share of what it shares would change with the
    number of workers.
    """
    return int(psutil.Process(pid).memory_info().rss), tree_bytes(pid)


async def kill_workers(pid: int, every_s: float, watch: Watch, seed: int) -> None:
    """Kill one of a server's processes again and again, until cancelled.

    Which one is drawn among those of the models that were hit least often: a young worker is
    smaller than an old one, so that an even hand keeps the weights of all comparable.
    """
    chance, hits = random.Random(seed), Counter[str]()  # noqa: S311
    while True:
        await asyncio.sleep(every_s)
        workers = [(_name(worker), worker) for worker in live_children(pid)]
        if not workers:
            watch.found_none += 1
            continue
        fewest = min(hits[name] for name, _ in workers)
        name, victim = chance.choice([one for one in workers if hits[one[0]] == fewest])
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            hits[name] += 1
            watch.kills.append((now_s(), name))


def _name(worker: psutil.Process) -> str:
    """Return the last word of a process's command: for a worker, its model."""
    with contextlib.suppress(psutil.Error):
        return " ".join(worker.cmdline()[-1:])
    return ""


def growth(samples: Sequence[tuple[float, int]], warm_s: float) -> tuple[float, float]:
    """Return the medians of the first and the last quarter of the samples after the warm-up."""
    warm = [value for at_s, value in samples if at_s >= warm_s]
    quarter = max(1, len(warm) // 4)
    if not warm:
        return float("nan"), float("nan")
    return statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])


def shared_memory() -> set[str]:
    """Return the names in the folder of shared memory."""
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()  # noqa: PTH208
