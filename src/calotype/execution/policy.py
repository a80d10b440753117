"""Which waiting jobs form the next batch, and when. Pure: no clock, no lock, no asyncio."""

from collections import defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

AGING_S = 30.0
"""Waiting this long is worth one level of priority, so that nobody waits for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bounds on one batch."""

    max_jobs: int
    max_pixels: int
    """Input pixels after padding, summed over the batch. A lone job may exceed it."""
    max_wait_s: float
    """Longest time the oldest job waits for company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the policy needs to know about a queued job."""

    key: Hashable
    """Equal for jobs that may share a batch."""
    pixels: int
    arrived_s: float
    caller: str = ""
    priority: int = 0
    """Higher goes first."""
    alone: bool = False
    """Never in company: the last company that it had ended badly."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run these now (indices into the queue, ascending)."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after this many seconds, or when a job arrives (inf: queue empty)."""

    seconds: float


def fair_order(queue: Sequence[Waiting], turns: Mapping[str, int], now_s: float) -> list[int]:
    """Return the indices of a queue in the order in which its jobs should run.

    Jobs of higher priority go first, counting a level more for each ``AGING_S`` that one has
    waited. Among equals callers take turns, whoever had the last one longest ago beginning, and
    each caller's jobs go by age.

    Args:
        queue: jobs in order of arrival.
        turns: number of each caller's last turn; a caller that never had one is not in it.
        now_s: monotonic clock, seconds.
    """
    levels: defaultdict[int, defaultdict[str, deque[int]]]
    levels = defaultdict(lambda: defaultdict(deque))
    for index, job in enumerate(queue):
        level = job.priority + int(max(0.0, now_s - job.arrived_s) / AGING_S)
        levels[level][job.caller].append(index)
    order: list[int] = []
    for level in sorted(levels, reverse=True):
        callers = sorted(levels[level].items(), key=lambda c: (turns.get(c[0], -1), c[1][0]))
        rows = deque(own for _, own in callers)
        while rows:
            own = rows.popleft()
            order.append(own.popleft())
            if own:
                rows.append(own)
    return order


def next_batch(queue: Sequence[Waiting], limits: BatchLimits, now_s: float) -> Run | Wait:
    """Choose the next batch.

    The first job always goes; others join it in their order while they share its key and fit. A
    batch leaves when full or when its first job has waited ``max_wait_s``.

    Args:
        queue: jobs in fair order.
        limits: bounds on one batch.
        now_s: monotonic clock, seconds.
    """
    if not queue:
        return Wait(float("inf"))
    head = queue[0]
    chosen, pixels = [0], head.pixels
    full = head.alone or limits.max_jobs == 1
    for index, job in enumerate(queue[1:], start=1):
        if full:
            break
        if job.key != head.key or job.alone:
            continue
        full = pixels + job.pixels > limits.max_pixels
        if not full:
            chosen.append(index)
            pixels += job.pixels
            full = len(chosen) == limits.max_jobs
    patience_s = head.arrived_s + limits.max_wait_s - now_s
    return Run(tuple(chosen)) if full or patience_s <= 0 else Wait(patience_s)
