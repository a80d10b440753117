"""What ``serving.py`` has found, as tables and aims."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import bounds
import report
from contestants import CALOTYPE, LITSERVE, Contestant
from load import Load
from measure import percentile

CLIENTS = (1, 4, 16, 64)
"""Of the closed loops."""
SHARES = (0.5, 0.8)
"""Of what the slowest server answers to 16 clients: the open loops."""
BUSY = 16
MOST_OVERHEAD_MS = 2.0
LEAST_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Turn:
    """One server under one load, once."""

    load: Load
    cpu_s: float
    """Of all its processes."""
    memory_bytes: int
    """Of all its processes, afterwards; what they share counts once."""

    @property
    def cpu_ms(self) -> float:
        """Processor time a request."""
        return self.cpu_s / self.load.answers * 1e3

    @property
    def p50_ms(self) -> float:
        """The latency in the middle."""
        return percentile(self.load.latencies_s, 50) * 1e3


@dataclass(slots=True)
class Findings:
    """All that was measured; a load is a number of clients, or a share of the slowest's rate."""

    settings: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    """Cores that a server keeps busy although nobody asks."""
    codec_s: list[list[float]] = field(default_factory=list)
    """What the codec alone takes, each time, round by round."""
    rates: dict[float, float] = field(default_factory=dict)
    """Requests a second of the open loops, by share."""
    turns: dict[tuple[str, float], list[Turn]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def join(self, one: Contestant, mean: float, most: int) -> None:
        """Note who takes part, and by how many levels its picture differs from Calotype's."""
        self.settings[one.name] = one.setting
        self.pictures[one.name] = f"mean {mean:.1f}, at most {most} levels off" if most else "equal"

    def drop(self, name: str, why: str) -> None:
        """Note who doesn't take part, or not to the end."""
        if name == CALOTYPE:
            raise SystemExit(f"Calotype: {why}")
        print(f"{name}: {why}", flush=True)
        self.missing[name] = why

    def note(self, name: str, kind: float, turn: Turn) -> None:
        """Add a turn."""
        self.turns.setdefault((name, kind), []).append(turn)

    def names(self) -> list[str]:
        """Return who took part to the end."""
        return [name for name in self.settings if name not in self.missing]

    def overhead_ms(self, name: str) -> list[float]:
        """Return what a request takes more than the codec, in the middle, round by round."""
        pairs = zip(self.turns[name, 1], self.codec_s, strict=True)
        return [turn.p50_ms - statistics.median(alone) * 1e3 for turn, alone in pairs]

    def rates_of(self, name: str, clients: int) -> list[float]:
        """Return the answers a second, round by round."""
        return [turn.load.rate for turn in self.turns[name, clients]]

    def latency_ms(self, name: str, kind: float, percent: float) -> float:
        """Return a percentile of the latencies of all rounds."""
        every = [s for turn in self.turns[name, kind] for s in turn.load.latencies_s]
        return percentile(every, percent) * 1e3


def tables(found: Findings) -> tuple[report.Table, ...]:
    """Write the tables."""
    return (_throughput(found), _closed(found), _open(found), _cost(found))


def aims(found: Findings) -> list[bounds.Bound]:
    """Hold what was found against what is promised."""
    alone_ms = statistics.median(s for turn in found.codec_s for s in turn) * 1e3
    late_s = [s for turns in found.turns.values() for one in turns for s in one.load.late_s]
    rows = [
        bounds.at_most(
            "a request beyond its decoding and encoding, 1 client, median",
            statistics.median(found.overhead_ms(CALOTYPE)),
            MOST_OVERHEAD_MS,
            "ms",
        ),
        bounds.note("decoding and encoding alone, median", alone_ms, "ms"),
        bounds.note("client behind its plan, p99", percentile(late_s, 99) * 1e3, "ms"),
    ]
    if LITSERVE in found.names():
        ratio = report.paired(found.rates_of(CALOTYPE, BUSY), found.rates_of(LITSERVE, BUSY))
        what = f"times the requests/s of LitServe, {BUSY} clients"
        rows.append(bounds.at_least(what, ratio.median, LEAST_RATIO))
    return rows


def _throughput(found: Findings) -> report.Table:
    ours = found.rates_of(CALOTYPE, BUSY)
    rows: list[tuple[report.Cell, ...]] = []
    for name in found.names():
        rates = [statistics.median(found.rates_of(name, clients)) for clients in CLIENTS]
        versus = report.paired(ours, found.rates_of(name, BUSY)) if name != CALOTYPE else None
        rows.append((name, *rates, versus))
    columns = ("server", *(f"{n} client{'s' if n > 1 else ''}" for n in CLIENTS))
    return report.Table(
        "Requests a second, clients that never pause",
        (*columns, f"Calotype makes, {BUSY} clients"),
        tuple(rows),
    )


def _closed(found: Findings) -> report.Table:
    columns = [f"{n} client{'s' if n > 1 else ''}, {p}" for n in CLIENTS for p in ("p50", "p99")]
    title = "Latency with clients that never pause, ms"
    return _latencies(title, columns, CLIENTS, found)


def _open(found: Findings) -> report.Table:
    columns = [f"{rate:.0f}/s, {p}" for rate in found.rates.values() for p in ("p50", "p99")]
    shares = " and ".join(f"{share:.0%}" for share in found.rates)
    title = (
        f"Latency of requests at random moments, ms from the planned one, at {shares} of what the "
        f"slowest server answers to {BUSY} clients"
    )
    return _latencies(title, columns, tuple(found.rates), found)


def _latencies(
    title: str, columns: Sequence[str], kinds: Sequence[float], found: Findings
) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = [
        (name, *(found.latency_ms(name, kind, percent) for kind in kinds for percent in (50, 99)))
        for name in found.names()
    ]
    return report.Table(title, ("server", *columns), tuple(rows))


def _cost(found: Findings) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = []
    for name in found.names():
        every = [turn for (who, _), turns in found.turns.items() if who == name for turn in turns]
        rows.append(
            (
                name,
                _spread(found.overhead_ms(name)),
                _spread([turn.cpu_ms for turn in found.turns[name, BUSY]]),
                found.idle[name] * 100,
                max(turn.memory_bytes for turn in every) / 1e6,
                found.pictures[name],
                found.settings[name],
            )
        )
    columns = (
        "server",
        "added ms, 1 client",
        f"CPU ms a request, {BUSY} clients",
        "% of a core when idle",
        "most memory, MB",
        "picture",
        "setting",
    )
    return report.Table("What a request costs, all processes of a server", columns, tuple(rows))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
