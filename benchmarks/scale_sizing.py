"""``scale.py sizing``: what a request takes of each part of a cluster, and so of a large one."""

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, islice, repeat
from pathlib import Path

import redis
import uvloop
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import pictures
import report
import scale_paper
from contestants import CATALOG, HEADERS
from http1 import Connection, post
from load import ask_once, closed_loop
from scale_kinds import KINDS_IN_ORDER, Flows, snapshot, started
from server import Server, clean_environment, free_port, running

SIDE_PX = 512
PATH = "/models/bench/nothing"
KEEPING = {**HEADERS, "x-use-cache": "true"}
BYPASS, MISS, HIT = "x-use-cache: false", "new to the store", "kept answer"
KINDS_OF_REQUEST = (BYPASS, MISS, HIT)
CLIENTS = 4
PAUSE_S, ATTEMPTS = 0.05, 400
LINKS = (
    ("proxy", "server in front"),
    ("server in front", "replica"),
    ("replica", "server in front"),
    ("server in front", "proxy"),
    ("server in front", "store"),
    ("store", "server in front"),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One kind of request, once; all of it a request but the rate."""

    rate: float
    cpu_ms: dict[str, float]
    sent: Flows
    commands: float
    """Of the store."""


@dataclass(slots=True)
class Findings:
    """All turns, by kind of request and number of clients."""

    turns: dict[tuple[str, int], list[Turn]] = field(default_factory=lambda: defaultdict(list))

    def middle(self, what: str, clients: int, of: Callable[[Turn], float]) -> float:
        """Return the median of the rounds."""
        return statistics.median(map(of, self.turns[what, clients]))

    def cpu(self, what: str, kind: str) -> float:
        """Return the processor time a request with a few clients, ms."""
        return self.middle(what, CLIENTS, lambda turn: turn.cpu_ms.get(kind, 0.0))

    def flow(self, what: str, link: tuple[str, str]) -> float:
        """Return the bytes a request."""
        return self.middle(what, CLIENTS, lambda turn: turn.sent.get(link, 0.0))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this part takes."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100, help="of each turn")


def measure(told: argparse.Namespace) -> report.Report:
    """Count what goes where, with a store behind the server in front."""
    upload, found = pictures.photo(SIDE_PX), Findings()
    kept = post(PATH, upload, KEEPING)
    requests = {
        BYPASS: repeat(post(PATH, upload, HEADERS)),
        MISS: (post(PATH, _marked(upload, number), KEEPING) for number in count()),
        HIT: repeat(kept),
    }
    with ExitStack() as stack:
        store = stack.enter_context(_store())
        options = ("--ray", "--store-url", store.url)
        server = stack.enter_context(started(CATALOG, *options))
        answer_bytes = _warm_up(server, kept)
        for number in range(told.rounds):
            for what, each in requests.items():
                for clients in (1, CLIENTS):
                    turn = _turn(server, store, each, told.requests, clients)
                    found.turns[what, clients].append(turn)
            print(f"round {number + 1} of {told.rounds}", flush=True)
    sizes = scale_paper.Sizes(len(upload), SIDE_PX * SIDE_PX * 3, answer_bytes)
    return report.Report(
        name="scale-sizing",
        method=f"A JPEG of {SIDE_PX} x {SIDE_PX} pixels ({len(upload) / 1e3:.0f} kB) goes through "
        "a model that does nothing, in a process of its own, by `calotype serve --ray` with one "
        f"server in front, one replica and a Redis; 1 and {CLIENTS} clients that never pause, "
        f"{told.requests} requests a turn, {told.rounds} rounds. Bytes are those that the kernel "
        "counted on each connection.",
        tables=(
            _cpu(found),
            _bytes(found, sizes),
            _rates(found),
            scale_paper.table(_costs(found), sizes),
        ),
        versions=report.versions("calotype", "ray", "grpcio", "redis"),
    )


@dataclass(frozen=True, slots=True)
class _Redis:
    pid: int
    url: str
    client: "redis.Redis"

    def commands(self) -> int:
        """Return how many it has done."""
        return int(self.client.info("stats")["total_commands_processed"])


@contextmanager
def _store() -> Iterator[_Redis]:
    """Run a Redis that keeps nothing on a disk."""
    if shutil.which("redis-server") is None:
        raise SystemExit("the store needs redis-server: apt-get install redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        options = ["--dir", folder, "--daemonize", "no"]
        environ = clean_environment(place)
        with running([*command, *options], place / "log", environ) as process:
            client = redis.Redis(port=port, retry=Retry(ConstantBackoff(PAUSE_S), ATTEMPTS))
            client.ping()  # it has just been started
            yield _Redis(process.pid, f"redis://127.0.0.1:{port}/0", client)
            client.close()


def _warm_up(server: Server, kept: bytes) -> int:
    """Have everything loaded, and one answer in the store; return its size."""
    uvloop.run(closed_loop(server.port, kept, CLIENTS, 0.5))
    answer = uvloop.run(ask_once(server.port, kept))
    return len(answer.body)


def _turn(
    server: Server, store: _Redis, requests: Iterator[bytes], many: int, clients: int
) -> Turn:
    """Send so many requests, and see what they take."""
    each = list(islice(requests, many))
    commands, before = store.commands(), snapshot(server.process.pid, store.pid)
    begin_s = time.perf_counter()
    uvloop.run(_visit(server.port, each, clients))
    took_s = time.perf_counter() - begin_s
    after = snapshot(server.process.pid, store.pid)
    return Turn(
        rate=many / took_s,
        cpu_ms=after.cpu_ms_since(before, many),
        sent=after.sent_since(before, many),
        commands=(store.commands() - commands - 1) / many,
    )


async def _visit(port: int, requests: Sequence[bytes], clients: int) -> None:
    """Send each request once."""
    left = iter(requests)

    async def visit() -> None:
        connection = await Connection.open(port)
        for request in left:
            answer = await connection.ask(request)
            if answer.status != 200:
                raise RuntimeError(f"{answer.head}\n{answer.body[:200]!r}")
        connection.close()

    await asyncio.gather(*(visit() for _ in range(clients)))


def _marked(upload: bytes, number: int) -> bytes:
    """Put a comment into a JPEG: other bytes, and the same picture.

    Source: ITU-T T.81, B.2.4.5.
    """
    return upload[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + upload[2:]


def _cpu(found: Findings) -> report.Table:
    rows: tuple[tuple[report.Cell, ...], ...] = tuple(
        (
            what,
            *(found.cpu(what, kind) for kind in KINDS_IN_ORDER),
            found.middle(what, CLIENTS, lambda turn: turn.commands),
        )
        for what in KINDS_OF_REQUEST
    )
    columns = ("request", *KINDS_IN_ORDER, "commands of the store")
    return report.Table(f"Processor time a request, ms, {CLIENTS} clients", columns, rows)


def _bytes(found: Findings, sizes: scale_paper.Sizes) -> report.Table:
    rows: list[tuple[report.Cell, ...]] = []
    for what, is_made in ((BYPASS, True), (MISS, True), (HIT, False)):  # what is made is kept
        pixels, kept = is_made * sizes.pixels, is_made * sizes.answer
        predicted = (sizes.upload, pixels, pixels, sizes.answer, kept, 0)
        for link, size in zip(LINKS, predicted, strict=True):
            sent = found.flow(what, link)
            off = f"{sent / size - 1:+.1%}" if size else None
            rows.append((what, " to ".join(link), size, sent, off))
    columns = ("request", "way", "predicted", "measured", "off by")
    return report.Table("Bytes a request", columns, tuple(rows))


def _rates(found: Findings) -> report.Table:
    cores = os.cpu_count() or 1
    rows: list[tuple[report.Cell, ...]] = []
    for what in KINDS_OF_REQUEST:
        cpu_ms = found.middle(what, 1, lambda turn: sum(turn.cpu_ms.values()))
        predicted = cores / cpu_ms * 1e3
        rate = found.middle(what, CLIENTS, lambda turn: turn.rate)
        rows.append((what, cpu_ms, predicted, rate, f"{rate / predicted - 1:+.0%}"))
    title = f"Requests a second on {cores} cores, the client on them too, with {CLIENTS} clients"
    predicted_as = f"predicted: {cores} cores / that time"
    columns = ("request", "CPU ms, 1 client", predicted_as, "measured", "off by")
    return report.Table(title, columns, tuple(rows))


def _costs(found: Findings) -> scale_paper.Costs:
    kinds = ("proxy", "server in front", "replica", "store")
    return scale_paper.Costs(*(found.cpu(MISS, kind) / 1e3 for kind in kinds))
