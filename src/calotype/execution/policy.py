"""Which waiting jobs form the next batch, and when. Pure: no clock, no lock, no asyncio."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


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
    pixels: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """Run these now (indices into the queue, ascending)."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after this many seconds, or when a job arrives (inf: queue empty)."""

    seconds: float


def next_batch(queue: Sequence[Waiting], limits: BatchLimits, now_s: float) -> Run | Wait:
    """Choose the next batch.

    The oldest job always goes; others join it in order of arrival while they
    share its key and fit. A batch leaves when full or when its oldest job has
    waited ``max_wait_s``.

    Args:
        queue: jobs in order of arrival.
        limits: bounds on one batch.
        now_s: monotonic clock, seconds.
    """
    if not queue:
        return Wait(float("inf"))
    head = queue[0]
    chosen, pixels, full = [0], head.pixels, limits.max_jobs == 1
    for i, job in enumerate(queue[1:], start=1):
        if job.key != head.key:
            continue
        full = len(chosen) == limits.max_jobs or pixels + job.pixels > limits.max_pixels
        if full:
            break
        chosen.append(i)
        pixels += job.pixels
        full = len(chosen) == limits.max_jobs
    patience_s = head.arrived_s + limits.max_wait_s - now_s
    return Run(tuple(chosen)) if full or patience_s <= 0 else Wait(patience_s)
