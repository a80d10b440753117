"""Timing side by side: A B A B, so that a noisy machine disturbs both alike."""

import math
import os
import platform
import statistics
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


def side_by_side(
    contestants: Mapping[str, Work], rounds: int, clock: Callable[[], float]
) -> list[Timing]:
    """Run all contestants in turn, round after round, after one round to warm up.

    Args:
        contestants: by name.
        rounds: that count.
        clock: seconds of what is measured: of the wall, or of the processor.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            started_s = clock()
            work()
            if turn:
                seconds[name].append(clock() - started_s)
    return [Timing(name, tuple(values)) for name, values in seconds.items()]


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
