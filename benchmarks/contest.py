"""Engines that run the same picture in turn: what comes out is compared, then they are timed.

A round runs all, one after the other, so that a noisy machine disturbs all alike. Slow ones leave
after fewer rounds; each is compared with the first contestant in the rounds that both were in.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

import report
from calotype.domain.image import Pixels
from peer import PeerMissingError

PAUSE_S = 0.1
"""Between two contestants: the threads of some spin for a while after their work is done."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one picture."""

    seconds: float
    pixels: Pixels | None = None
    """What came out, if it was asked for."""


Contestant = Callable[[Pixels, bool], Run]
"""(picture, whether to return what comes out) -> what was measured."""


@dataclass(slots=True)
class Found:
    """What a contest found; the first contestant is the one that the others are compared with."""

    first_s: dict[str, float] = field(default_factory=dict)
    """The round to warm up, with what an engine compiles then."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, Pixels] = field(default_factory=dict)
    """What came out in the round to warm up."""
    missing: dict[str, str] = field(default_factory=dict)

    def median_s(self, name: str) -> float:
        """Return the middle one of its rounds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> report.Ratio:
        """Return how many times longer one takes than another, in the rounds that both were in."""
        a, b = self.seconds[name], self.seconds[other]
        common = min(len(a), len(b))
        return report.paired(a[:common], b[:common])


def inside(work: Callable[[Pixels], Pixels]) -> Contestant:
    """Return a contestant that runs in this process."""

    def run(pixels: Pixels, keep: bool) -> Run:
        started_s = time.perf_counter()
        found = work(pixels)
        return Run(time.perf_counter() - started_s, found if keep else None)

    return run


def hold(
    contestants: Mapping[str, Contestant],
    pixels: Pixels,
    *,
    rounds: int,
    budget_s: float,
    warm: Pixels | None = None,
) -> Found:
    """Run all in turn.

    Args:
        contestants: by name, ours first.
        pixels: what is timed.
        rounds: most.
        budget_s: an engine that has run for longer leaves; it had at least one round.
        warm: runs before, and is compared; default the same picture.
    """
    found = Found()
    for name, run in contestants.items():
        _warm_up(found, name, run, pixels if warm is None else warm)
    for number in range(rounds):
        said = []
        for name in found.first_s:
            if name in found.missing or not _has_time(found.seconds.get(name, []), budget_s):
                continue
            _time(found, name, contestants[name], pixels)
            said += [f"{name} {found.seconds[name][-1]:.3f}"] if name in found.seconds else []
        print(f"  round {number + 1}: {', '.join(said)}", flush=True)
    return found


def _has_time(seconds: list[float], budget_s: float) -> bool:
    """Tell whether another round fits into what an engine may take."""
    return not seconds or sum(seconds) + statistics.mean(seconds) <= budget_s


def _warm_up(found: Found, name: str, run: Contestant, pixels: Pixels) -> None:
    try:
        result = run(pixels, True)
    except PeerMissingError as error:
        found.missing[name] = str(error)
        print(f"  {name} drops out: {error}", flush=True)
        return
    found.first_s[name] = result.seconds
    if result.pixels is not None:
        found.pictures[name] = result.pixels
    print(f"  {name}: first run {result.seconds:.2f} s", flush=True)


def _time(found: Found, name: str, run: Contestant, pixels: Pixels) -> None:
    time.sleep(PAUSE_S)
    try:
        found.seconds.setdefault(name, []).append(run(pixels, False).seconds)
    except PeerMissingError as error:
        found.missing[name] = str(error)
        if not found.seconds[name]:
            del found.seconds[name]
        print(f"  {name} drops out: {error}", flush=True)


def difference(found: Pixels, exact: Pixels) -> tuple[int, float]:
    """Return the largest difference, of 255, and the PSNR in dB; infinity for equal pictures."""
    if found.shape != exact.shape:
        raise ValueError(f"one picture is {found.shape}, the other {exact.shape}")
    apart = np.abs(found.astype(np.int16) - exact.astype(np.int16))
    error = float(np.mean(apart.astype(np.float64) ** 2))
    return int(apart.max()), 10 * float(np.log10(255**2 / error)) if error else float("inf")


COLUMNS = (
    "engine",
    "median, s",
    "rounds",
    "Calotype is faster by (spread)",
    "first run, s",
    "max difference, of 255",
    "PSNR, dB",
)


def table(title: str, found: Found, exact: str, hidden: str = "") -> report.Table:
    """Write what a contest found.

    Args:
        title: of the table.
        found: by the contest.
        exact: the contestant that pictures are compared with.
        hidden: a contestant that makes no picture and is told of elsewhere.
    """
    ours = next(iter(found.seconds))
    rows = []
    for name, seconds in found.seconds.items():
        if name == hidden:
            continue
        apart: tuple[report.Cell, report.Cell] = (None, None)
        if name != exact and {name, exact} <= found.pictures.keys():
            largest, psnr = difference(found.pictures[name], found.pictures[exact])
            apart = (largest, psnr if largest else "equal")
        ratio = None if name == ours else found.ratio(name, ours)
        row = (name, found.median_s(name), len(seconds), ratio, found.first_s[name], *apart)
        rows.append(row)
    return report.Table(title, COLUMNS, tuple(rows))
