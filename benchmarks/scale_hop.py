"""``scale.py hop``: what a request takes through Ray Serve more than through one process."""

import argparse
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field

import uvloop

import bounds
import pictures
import report
from contestants import CATALOG, HEADERS
from http1 import get, post
from load import closed_loop
from measure import percentile
from scale_kinds import HERE, KINDS_IN_ORDER, memory_bytes, rest, snapshot, started
from server import Server

MOST_ADDED_MS = 10.0
WARM_UP_S = 1.0
SIDE_PX, SMALL_PX = 512, 16
LOCAL, RAY = "one process", "Ray Serve"
NOTHING, KEPT, SMALL, FULL = "GET /health", "512 px, kept answer", "16 px", "512 px"
WHAT = {
    NOTHING: "proxy and server in front, nothing sent",
    KEPT: "an upload and its answer through both",
    SMALL: "a message to a replica and back",
    FULL: "its pixels there and back",
}
"""What a request shows that those before it don't."""


@dataclass(slots=True)
class Findings:
    """By request, and by server where it isn't Ray's alone."""

    p50_ms: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Round by round."""
    latencies_s: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    cpu_ms: dict[tuple[str, str], list[dict[str, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    rest: dict[str, float] = field(default_factory=dict)
    """Cores that a kind of process keeps busy although nobody asks."""
    memory: dict[str, list[int]] = field(default_factory=dict)

    def added_ms(self, what: str) -> list[float]:
        """Return what Ray adds at the median, round by round."""
        pairs = zip(self.p50_ms[RAY, what], self.p50_ms[LOCAL, what], strict=True)
        return [there - here for there, here in pairs]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this part takes."""
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")


def measure(told: argparse.Namespace) -> report.Report:
    """Give both servers turns of each request."""
    upload, found = pictures.photo(SIDE_PX), Findings()
    requests = _requests(upload)
    with ExitStack() as stack:
        servers = {
            LOCAL: stack.enter_context(started(CATALOG)),
            RAY: stack.enter_context(started(CATALOG, "--ray")),
        }
        _warm_up(servers, requests)
        found.rest = rest(servers[RAY])
        for number in range(told.rounds):
            for what, request in requests.items():
                for name in (LOCAL, RAY) if number % 2 else (RAY, LOCAL):
                    _turn((name, what), servers[name], request, told.seconds, found)
            print(f"round {number + 1} of {told.rounds}", flush=True)
        found.memory = memory_bytes(servers[RAY].process.pid)
    return report.Report(
        name="scale-hop",
        method=f"A JPEG of {SIDE_PX} x {SIDE_PX} pixels ({len(upload) / 1e3:.0f} kB) goes through "
        "a model that does nothing, once by `calotype serve` and once by `calotype serve --ray` "
        "with one server in front and one replica, each model in a process of its own. Both are "
        f"up, and have turns of {told.seconds:g} s in {told.rounds} rounds, A B B A; one client "
        "that never pauses, and no cache but where it says so.",
        tables=(_latencies(found), _parts(found), _cpu(found), _rests(found)),
        aims=(
            bounds.at_most(
                f"Ray adds to {FULL}, median", _middle(found.added_ms(FULL)), MOST_ADDED_MS, "ms"
            ),
        ),
        versions=report.versions("calotype", "ray", "grpcio", "uvicorn", "starlette"),
    )


def _requests(upload: bytes) -> dict[str, bytes]:
    path = "/models/bench/nothing"
    keeping = {**HEADERS, "x-use-cache": "true"}
    return {
        NOTHING: get("/health"),
        KEPT: post(path, upload, keeping),
        SMALL: post(path, pictures.photo(SMALL_PX), HEADERS),
        FULL: post(path, upload, HEADERS),
    }


def _warm_up(servers: dict[str, Server], requests: dict[str, bytes]) -> None:
    for server in servers.values():
        for request in requests.values():
            uvloop.run(closed_loop(server.port, request, 1, WARM_UP_S))


def _turn(
    key: tuple[str, str], server: Server, request: bytes, seconds: float, found: Findings
) -> None:
    before = snapshot(server.process.pid)
    load = uvloop.run(closed_loop(server.port, request, 1, seconds))
    after = snapshot(server.process.pid)
    found.p50_ms[key].append(percentile(load.latencies_s, 50) * 1e3)
    found.latencies_s[key] += load.latencies_s
    found.cpu_ms[key].append(after.cpu_ms_since(before, load.answers))


def _latencies(found: Findings) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = []
    for what in WHAT:
        cells = [
            percentile(found.latencies_s[name, what], percent) * 1e3
            for name in (LOCAL, RAY)
            for percent in (50, 99)
        ]
        rows.append((what, *cells, _spread(found.added_ms(what))))
    columns = [f"{name}, {p}" for name in (LOCAL, RAY) for p in ("p50", "p99")]
    return report.Table("Latency, ms", ("request", *columns, "added at the median"), tuple(rows))


def _parts(found: Findings) -> report.Table:
    nothing, kept, small, full = ([*found.added_ms(what)] for what in WHAT)
    steps = {
        NOTHING: nothing,
        KEPT: _less(kept, nothing),
        SMALL: _less(small, nothing),
        FULL: [f - k - (s - n) for n, k, s, f in zip(nothing, kept, small, full, strict=True)],
    }
    rows = tuple((WHAT[what], _spread(ms)) for what, ms in steps.items())
    return report.Table("Where it goes, ms at the median", ("hop", "added"), rows)


def _cpu(found: Findings) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = []
    for what in WHAT:
        here, there = found.cpu_ms[LOCAL, what], found.cpu_ms[RAY, what]
        each = [_middle([kinds.get(kind, 0.0) for kinds in there]) for kind in KINDS_IN_ORDER]
        rows.append((what, _server(here), _server(there), *each))
    title = "Processor time a request, ms, what Ray does beside among it"
    columns = ("request", LOCAL, RAY, *KINDS_IN_ORDER)
    return report.Table(title, columns, tuple(rows))


def _rests(found: Findings) -> report.Table:
    rows = tuple(
        (kind, len(sizes), sum(sizes) / len(sizes) / 1e6, found.rest.get(kind, 0.0) * 100)
        for kind in KINDS_IN_ORDER
        if (sizes := found.memory.get(kind))
    )
    columns = ("process", "here", "MB each", "% of a core when nobody asks, all together")
    return report.Table("What is there", columns, rows)


def _server(rounds: list[dict[str, float]]) -> float:
    """Return what all processes of a server took together."""
    return _middle([sum(ms for kind, ms in kinds.items() if kind != HERE) for kinds in rounds])


def _less(more: list[float], less: list[float]) -> list[float]:
    return [a - b for a, b in zip(more, less, strict=True)]


def _middle(values: list[float]) -> float:
    return statistics.median(values)


def _spread(values: list[float]) -> str:
    return f"{_middle(values):.2f} ({min(values):.2f} to {max(values):.2f})"
