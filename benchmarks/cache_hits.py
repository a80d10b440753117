"""Requests a second of cached answers, beside a bare starlette route.

    .venv/bin/python benchmarks/cache_hits.py [--rounds 7] [--seconds 1] [--clients 4]

Both servers run under uvicorn (uvloop, httptools), as processes of their own, the whole time. This
process sends the same picture of 100 kB over keep-alive connections to one after the other.
Calotype answers from memory, with its defaults; the bare route digests the body and returns as many
bytes, which is the least that anything which tells uploads apart can do.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

import bounds
import peer
import pictures
import report
from contestants import CALOTYPE, CATALOG
from http1 import post
from load import Load, ask_once, closed_loop
from measure import percentile
from processes import tree_cpu_s
from server import clean_environment, free_port, running, serving, wait_for

SIDE_PX = 185
"""A PNG of noise this wide and high takes 100 kB."""
BARE = "bare starlette"
LEAST_RATIO = 0.75
Turns = dict[str, list[tuple[Load, float]]]
"""Of each server, with the processor time that it took."""


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--clients", type=int, default=4)
    told = parser.parse_args()
    upload = pictures.noise(SIDE_PX, SIDE_PX, seed=1)
    requests = {
        CALOTYPE: post("/models/bench/nothing", upload, {"accept": "image/png"}),
        BARE: post("/digest", upload, {}),
    }
    turns = measure(requests, told)
    ratio = report.paired(rates(turns[CALOTYPE]), rates(turns[BARE]))
    report.publish(
        report.Report(
            name="cache_hits",
            method=f"{told.clients} clients that never pause send a picture of "
            f"{len(upload) / 1e3:.0f} kB, whose answer is in memory, to both servers in turn, "
            f"{told.rounds} rounds of {told.seconds} s after one to warm up. The client shares "
            "the cores with them.",
            tables=(table(turns, ratio),),
            aims=[bounds.at_least("of the bare route's requests/s", ratio.median, LEAST_RATIO)],
            versions=report.versions("calotype", "starlette", "uvicorn", "uvloop", "httptools"),
        )
    )


def measure(requests: dict[str, bytes], told: argparse.Namespace) -> Turns:
    """Give both servers a turn in every round, in alternating order."""
    turns: Turns = {name: [] for name in requests}
    with ExitStack() as stack:
        servers = start(stack)
        compare_answers({name: (servers[name][0], requests[name]) for name in requests})
        for number in range(told.rounds + 1):
            for name in requests if number % 2 else reversed(requests):
                port, pid = servers[name]
                before_s = tree_cpu_s(pid)
                load = uvloop.run(closed_loop(port, requests[name], told.clients, told.seconds))
                if number:
                    turns[name].append((load, tree_cpu_s(pid) - before_s))
            print(f"round {number} of {told.rounds}", flush=True)
    return turns


def start(stack: ExitStack) -> dict[str, tuple[int, int]]:
    """Start both; return their ports and processes."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    ours = stack.enter_context(serving(folder, CATALOG))
    port = free_port()
    command = [sys.executable, str(peer.PEERS / "bare_peer.py"), "--port", str(port)]
    log, environ = folder / "bare.log", clean_environment(folder)
    bare = stack.enter_context(running(command, log, environ))
    wait_for(f"http://127.0.0.1:{port}/")
    return {CALOTYPE: (ours.port, ours.process.pid), BARE: (port, bare.pid)}


def compare_answers(asked: Mapping[str, tuple[int, bytes]]) -> None:
    """End this program unless both answer the picture that they get, ours from its cache."""
    first, *others = [pictures.pixels_of(uvloop.run(ask_once(*one)).body) for one in asked.values()]
    if any((first != other).any() for other in others):
        raise SystemExit("the servers answer different pictures")
    said = uvloop.run(ask_once(*asked[CALOTYPE])).headers.get("x-cache", "")
    if "hit" not in said:
        raise SystemExit(f"Calotype's answer does not come from its cache: {said}")


def rates(turns: Sequence[tuple[Load, float]]) -> list[float]:
    """Return the answers a second, round by round."""
    return [load.rate for load, _ in turns]


def table(turns: Turns, ratio: report.Ratio) -> report.Table:
    """Set both side by side."""
    rows: list[tuple[report.Cell, ...]] = []
    for name, found in turns.items():
        every = [s for load, _ in found for s in load.latencies_s]
        cpu_ms = statistics.median(cpu_s / load.answers for load, cpu_s in found) * 1e3
        rows.append(
            (
                name,
                statistics.median(rates(found)),
                percentile(every, 50) * 1e3,
                percentile(every, 99) * 1e3,
                cpu_ms,
                ratio if name == CALOTYPE else None,
            )
        )
    columns = ("server", "requests/s", "p50, ms", "p99, ms", "CPU ms a request", "of the bare one")
    return report.Table("Cached answers", columns, tuple(rows))


if __name__ == "__main__":
    main()
