"""``scale.py growth``: requests a second with more and more replicas, and what ends it."""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

import bounds
import pictures
import report
from contestants import HEADERS
from http1 import post
from load import closed_loop
from measure import percentile
from scale_kinds import HELPERS, HERE, KINDS, WORKER, rest, snapshot, started
from server import Server

STEP_S = 0.5
"""What the model sleeps: long enough that two cores have time for many of them."""
SIDE_PX = 16
ONGOING = 2
"""One runs, one waits: a replica is never without work, and never has two to run together."""
CLIENTS = 3
"""For each replica, so that one more waits to be sent."""
LEAST = {2: 1.9, 16: 12.0}
"""Times what one replica does."""
WARM_UP_STEPS = 3
NO_SLEEP = "bench/none"
BUSY_CLIENTS, BUSY_REPLICAS = 32, 4
OPTIONS = ("--isolation", "thread", "--queue-size", "10000")
NO_KINDS = ("store", WORKER, "raylet", "GCS", HELPERS)
"""Not in the table by themselves."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One load, once."""

    rate: float
    p50_s: float
    cores: dict[str, float]
    """That each kind of process kept busy."""


@dataclass(slots=True)
class Findings:
    """All turns, by the number of replicas, or of servers in front."""

    replicas: dict[int, list[Turn]] = field(default_factory=lambda: defaultdict(list))
    fronts: dict[int, list[Turn]] = field(default_factory=lambda: defaultdict(list))
    rest: dict[int, dict[str, float]] = field(default_factory=dict)
    """Cores in use when nobody asks, by the number of replicas that are there."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this part takes."""
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--fronts", type=int, nargs="+", default=[1, 2])


def measure(told: argparse.Namespace) -> report.Report:
    """Load models of more and more replicas, all of them there the whole time."""
    found = Findings()
    with started(_catalog(told.replicas), "--ray", *OPTIONS, *_places(told.replicas)) as server:
        found.rest[sum(told.replicas) + 1] = rest(server)
        for number in range(told.rounds + 1):
            for count in told.replicas:
                turn = _turn(server, _name(count), CLIENTS * count, told.seconds)
                if number:
                    found.replicas[count].append(turn)
            print(f"round {number} of {told.rounds}", flush=True)
    for count in told.fronts:
        _saturate(count, told, found)
    return report.Report(
        name="scale-growth",
        method=f"A model that sleeps {STEP_S:g} s for each picture of {SIDE_PX} x {SIDE_PX} pixels "
        f"has {', '.join(map(str, told.replicas))} replicas, under as many names in one "
        f"`calotype serve --ray` with one server in front; each replica holds {ONGOING} jobs, one "
        f"that runs and one that waits. {CLIENTS} clients for each replica never pause, in turns "
        f"of {told.seconds:g} s in {told.rounds} rounds, after one to warm up; no cache. Then a "
        f"model that does nothing has {BUSY_REPLICAS} replicas and {BUSY_CLIENTS} clients.",
        tables=(_growth(found), _cores(found.replicas), _saturation(found), _rest(found)),
        aims=tuple(
            bounds.at_least(
                f"times the requests/s of 1 replica, {count} replicas",
                _ratio(found, count).median,
                least,
            )
            for count, least in LEAST.items()
            if count in found.replicas
        ),
        versions=report.versions("calotype", "ray", "grpcio", "uvicorn"),
    )


def _saturate(fronts: int, told: argparse.Namespace, found: Findings) -> None:
    """See how many requests a second go through when nothing sleeps."""
    places = f"{NO_SLEEP}: replicas={BUSY_REPLICAS}; *: replicas=1"
    options = ("--cluster-models", places, "--cluster-ingresses", str(fronts))
    with started(_model(NO_SLEEP, 0), "--ray", *OPTIONS, *options) as server:
        found.rest.setdefault(BUSY_REPLICAS + 1, rest(server))
        for number in range(told.rounds + 1):
            turn = _turn(server, NO_SLEEP, BUSY_CLIENTS, told.seconds)
            if number:
                found.fronts[fronts].append(turn)
    print(f"{fronts} in front", flush=True)


def _turn(server: Server, model: str, clients: int, seconds: float) -> Turn:
    request = post(f"/models/{model}", pictures.photo(SIDE_PX), HEADERS)
    before, begin_s = snapshot(server.process.pid), time.perf_counter()
    work = closed_loop(server.port, request, clients, seconds, WARM_UP_STEPS * STEP_S)
    load = uvloop.run(work)
    cores = snapshot(server.process.pid).cores_since(before, time.perf_counter() - begin_s)
    return Turn(load.rate, percentile(load.latencies_s, 50), cores)


def _name(count: int) -> str:
    return f"bench/sleep-{count}"


def _catalog(replicas: Sequence[int]) -> str:
    return "".join(_model(_name(count), STEP_S) for count in replicas)


def _model(name: str, step_s: float) -> str:
    return f'[[model]]\nid = "{name}"\nbackend = "fake"\noptions = {{ step_s = {step_s} }}\n'


def _places(replicas: Sequence[int]) -> tuple[str, str]:
    places = [f"{_name(count)}: replicas={count} ongoing={ONGOING}" for count in replicas]
    return "--cluster-models", "; ".join([*places, "*: replicas=1"])


def _ratio(found: Findings, count: int) -> report.Ratio:
    one = [turn.rate for turn in found.replicas[min(found.replicas)]]
    return report.paired([turn.rate for turn in found.replicas[count]], one)


def _growth(found: Findings) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = []
    for count, turns in found.replicas.items():
        rate = _middle([turn.rate for turn in turns])
        p50_s = _middle([turn.p50_s for turn in turns])
        ratio = _ratio(found, count) if count > 1 else None
        rows.append((count, CLIENTS * count, rate, ratio, rate * STEP_S / count * 100, p50_s))
    columns = (
        *("replicas", "clients", "requests/s", "times one replica"),
        *("% of what they could do", "median latency, s"),
    )
    return report.Table("More replicas", columns, tuple(rows))


def _cores(found: dict[int, list[Turn]]) -> report.Table:
    rows = tuple((count, *_shares(turns)) for count, turns in found.items())
    return report.Table("Cores that each kind of process keeps busy", _columns("replicas"), rows)


def _saturation(found: Findings) -> report.Table:
    rows = tuple(
        (count, _middle([turn.rate for turn in turns]), *_shares(turns))
        for count, turns in found.fronts.items()
    )
    first, *kinds = _columns("servers in front")
    title = (
        f"As fast as it goes: no sleep, {BUSY_REPLICAS} replicas, {BUSY_CLIENTS} clients; cores "
        "that each kind of process keeps busy"
    )
    return report.Table(title, (first, "requests/s", *kinds), rows)


def _rest(found: Findings) -> report.Table:
    kinds = ("controller", "GCS", "raylet", HELPERS, "replica")
    rows = tuple(
        (count, *(cores.get(kind, 0.0) * 100 for kind in kinds))
        for count, cores in sorted(found.rest.items())
    )
    title = "When nobody asks, % of a core that each kind of process takes"
    return report.Table(title, ("replicas that are there", *kinds), rows)


def _columns(first: str) -> tuple[str, ...]:
    return first, HERE, *_kinds(), "everything else of Ray", "all"


def _shares(turns: Sequence[Turn]) -> tuple[float, ...]:
    each = [_middle([turn.cores.get(kind, 0.0) for turn in turns]) for kind in (HERE, *_kinds())]
    total = _middle([sum(turn.cores.values()) for turn in turns])
    return *each, total - sum(each), total


def _kinds() -> list[str]:
    return [kind for kind in KINDS.values() if kind not in NO_KINDS]


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values)
