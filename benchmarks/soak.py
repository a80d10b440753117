"""Hours in minutes: many models and clients, wrong requests, clients that leave, dying workers.

    .venv/bin/python benchmarks/soak.py [--seconds 600] [--kill-every 10] [--clients 8]

All answers are computed alone first. Then the clients ask for them at random, all at once, while a
process of the server is killed again and again. Whatever happens, each request gets one answer, and
it is the right one; and when it is over nothing has grown or stayed behind.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

import bounds
import report
from http1 import Pool
from measure import percentile
from processes import is_alive, live_children
from server import Server, serving
from soak_cases import CATALOG, DEADLINE_S, MODELS, answer_alone, make_bad, make_cases
from soak_clients import Clients, Record
from soak_watch import Watch, growth, kill_workers, shared_memory, weigh

WARM_UP = 0.2
"""Share of the time after which memory counts."""
MORE_DESCRIPTORS = 4
SETTLE_S = 15.0
MIB = 2**20


@dataclass(slots=True)
class Findings:
    """All that is judged in the end."""

    record: Record = field(default_factory=Record)
    watch: Watch = field(default_factory=Watch)
    warm_s: float = 0.0
    descriptors: tuple[int, int] = (0, 0)
    """Of the server, before and after the load."""
    status: int | None = None
    """That the server ended with."""
    orphans: list[str] = field(default_factory=list)
    left_behind: set[str] = field(default_factory=set)
    """Names of shared memory that weren't there before."""


def main() -> None:
    """Measure, print, and judge."""
    told = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the server then, too
    found, before = Findings(), shared_memory()
    # As many may be in work as all clients but one send, so that 429 happens too.
    size = ("--queue-size", str(max(1, told.clients - 1)))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), CATALOG, *size) as server,
    ):
        uvloop.run(soak(server, told, found))
        end(server, found)
        if told.log is not None:
            told.log.write_bytes(server.log.read_bytes())
    found.left_behind = shared_memory() - before
    report.publish(
        report.Report(
            name="soak",
            method=f"{told.clients} clients send a mixture of models, sizes and wrong requests for "
            f"{told.seconds:.0f} s, some of them leave before their answer, and a process of the "
            "server is killed again and again; every answer is compared with the one that was "
            "computed alone.",
            aims=judge(found, told),
            versions=report.versions("calotype"),
        )
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kill-every", type=float, default=10.0, help="seconds")
    parser.add_argument("--no-kill", action="store_true", help="let all workers live")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--failures", type=int, default=0, help="answers 500 allowed where two workers were killed"
    )
    parser.add_argument("--growth", type=float, default=5.0, help="percent of memory allowed")
    parser.add_argument("--log", type=Path, help="where to copy the server's log")
    return parser.parse_args()


async def soak(server: Server, told: argparse.Namespace, found: Findings) -> None:
    """Compute the right answers, then put the load on."""
    pid, cases, pool = server.process.pid, make_cases(told.seed), Pool(server.port)
    right = await answer_alone(pool, cases)
    pool.close()
    print(f"{len(right)} right answers of {len(MODELS)} models are known", flush=True)
    before = await quiet_descriptors(pid, 0)
    clients = Clients(server.port, right, make_bad(), told.seed)
    found.record = clients.record
    watching = [asyncio.create_task(weigh(pid, found.watch))]
    if not told.no_kill:
        killing = kill_workers(pid, told.kill_every, found.watch, told.seed)
        watching.append(asyncio.create_task(killing))
    began_s = time.perf_counter()
    found.warm_s = began_s + WARM_UP * told.seconds
    await clients.run(told.clients, began_s + told.seconds)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    await clients.close()
    # Once more each, so that the same models are loaded as before.
    await answer_alone(last := Pool(server.port), cases)
    last.close()
    found.descriptors = before, await quiet_descriptors(pid, before + MORE_DESCRIPTORS)


async def quiet_descriptors(pid: int, enough: int) -> int:
    """Return the descriptors of a process once it has closed what its clients did."""
    process, counts = psutil.Process(pid), [psutil.Process(pid).num_fds()]
    end_s = time.perf_counter() + SETTLE_S
    while time.perf_counter() < end_s:
        await asyncio.sleep(1.0)
        counts.append(process.num_fds())
        if counts[-1] <= enough or (not enough and counts[-1] == counts[-2]):
            break
    return counts[-1]


def end(server: Server, found: Findings) -> None:
    """End the server, and look for what it leaves behind."""
    family = live_children(server.process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        found.status = server.stop()
    end_s = time.perf_counter() + SETTLE_S
    while (left := [one for one in family if is_alive(one)]) and time.perf_counter() < end_s:
        time.sleep(0.1)
    found.orphans = [str(one) for one in left]


def judge(found: Findings, told: argparse.Namespace) -> list[bounds.Bound]:
    """Hold what happened against what is promised."""
    record = found.record
    for what in ("lost", "strangers", "wrong", "unexpected"):
        for line in getattr(record, what)[:5]:
            print(f"{what}: {line}")
    return [
        bounds.note("requests", record.sent),
        bounds.note("wrong requests among them", record.bad),
        bounds.note("clients that left", record.left),
        *(bounds.note(f"answers {status}", n) for status, n in sorted(record.statuses.items())),
        bounds.note("computed in company", record.batched),
        bounds.note("from the cache", record.caches["hit"]),
        bounds.exactly("requests without an answer", len(record.lost), 0),
        bounds.exactly("answers of another request", len(record.strangers), 0),
        bounds.exactly("bytes that nobody asked for", record.surplus_bytes, 0),
        bounds.exactly("wrong pictures", len(record.wrong), 0),
        bounds.exactly("answers of a wrong status", len(record.unexpected), 0),
        *judge_kills(found, told),
        bounds.note("answer, p50", percentile(record.took_s, 50) * 1e3, "ms"),
        bounds.at_most("answer, p99", percentile(record.took_s, 99), DEADLINE_S, "s"),
        *judge_growth(found, told.growth),
        bounds.exactly("status after SIGTERM", found.status, 0),
        bounds.exactly("processes left behind", ", ".join(found.orphans) or "none", "none"),
        bounds.exactly("shared memory left behind", found.left_behind or "none", "none"),
    ]


def judge_kills(found: Findings, told: argparse.Namespace) -> list[bounds.Bound]:
    """Judge the answers 500: a job whose workers were killed twice may get one."""
    kills, failures = found.watch.kills, found.record.failures
    twice = [
        one for one in failures if sum(one.began_s <= at_s <= one.ended_s for at_s, _ in kills) > 1
    ]
    for one in failures[:5]:
        print(f"500 after {one.ended_s - one.began_s:.1f} s: {one.text}")
    rows = [
        bounds.exactly("answers 500 without two kills", len(failures) - len(twice), 0),
        bounds.at_most("answers 500 after two kills", len(twice), told.failures),
    ]
    if told.no_kill:
        return [bounds.Bound("workers killed", "not tried"), *rows]
    if not kills:
        print("NO WORKER WAS FOUND TO KILL: either models run inside the server, or none was up")
    return [bounds.at_least("workers killed", len(kills), 1), *rows]


def judge_growth(found: Findings, most: float) -> list[bounds.Bound]:
    """Judge memory and descriptors."""
    (first, last), server = (
        growth(samples, found.warm_s)
        for samples in (found.watch.tree_bytes, found.watch.server_bytes)
    )
    before, after = found.descriptors
    return [
        bounds.note("memory, all processes, first quarter", first / MIB, "MiB"),
        bounds.note("memory, all processes, last quarter", last / MIB, "MiB"),
        bounds.at_most("memory, all processes, growth", (last / first - 1) * 100, most, "%"),
        # Workers are young whenever they were killed; what the server alone does is worth a look.
        bounds.note("memory, server, first quarter", server[0] / MIB, "MiB"),
        bounds.note("memory, server, last quarter", server[1] / MIB, "MiB"),
        bounds.at_most("more descriptors", after - before, MORE_DESCRIPTORS),
    ]


if __name__ == "__main__":
    main()
