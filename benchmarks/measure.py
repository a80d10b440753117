"""Timing side by side: A B A B, so that a noisy machine disturbs both alike."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one contestant, round by round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)


def side_by_side(contestants: Mapping[str, Work], rounds: int) -> list[Timing]:
    """Run all contestants in turn, round after round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            started_s = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - started_s)
    return [Timing(name, tuple(values)) for name, values in seconds.items()]


def ratio(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """Return how many times faster: median of the paired rounds, lowest, highest."""
    pairs = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


def table(timings: list[Timing]) -> str:
    """Write a Markdown table: the first row is ours, the others are compared with it."""
    ours = timings[0]
    rows = ["| engine | median | Calotype is faster by (spread) |", "|---|---|---|"]
    for timing in timings:
        middle, low, high = ratio(timing, ours)
        versus = "" if timing is ours else f"{middle:.2f}x ({low:.2f}-{high:.2f})"
        rows.append(f"| {timing.name} | {timing.median_s:.3f} s | {versus} |")
    return "\n".join(rows)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent are not above; not a number if there are none."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def machine() -> str:
    """Name the processor and what it can do."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next(
        (line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), ""
    )
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    has = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16") if f in flags]
    return f"{model or platform.processor()}, {os.cpu_count()} cores, {' '.join(has)}"
