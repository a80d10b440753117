"""What serving costs: a model that does nothing, behind Calotype, other servers and a bare route.

    .venv/bin/python benchmarks/serving.py [--rounds 3] [--seconds 0.7] [--only LitServe]

Everybody decodes the same JPEG of 512 x 512 pixels to an array, hands it to whatever runs a model
there, and encodes what comes back: the peers with libvips in one and the same setting, but for the
script with Pillow; Calotype with whatever its codec takes, which a second bare route has as well. A
peer is tried in each of its sensible settings and runs in the one that makes it fastest; Calotype
has its defaults. The pictures are compared before anything is timed.

All servers are up the whole time, each for a turn of every load in every round: a closed loop of 1,
4, 16 and 64 clients that never pause, then requests at random moments, as many a second as half and
four fifths of what the slowest server can do. In the turns with one client this process also
decodes and encodes the picture itself, in the way the pipeline does: what a request takes more than
that is the overhead.
"""

import argparse
import signal
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

import contestants
import peer
import pictures
import report
from codec_alone import codec_alone, repeat
from contestants import Contestant, Running
from http1 import LostError
from load import Load, closed_loop, open_loop, schedule
from processes import tree_bytes, tree_cpu_s
from serving_tables import CLIENTS, SHARES, Findings, Turn, aims, tables

IDLE_S = 2.0
WARM_UP_S = 1.0
PACKAGES = ("calotype", "starlette", "uvicorn", "uvloop", "httptools", "pyvips", "pyvips-binary")


def main() -> None:
    """Measure, and publish."""
    told = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the servers then, too
    upload, found = pictures.photo(told.side), Findings()
    chosen = choose(upload, told.only, found)
    with ExitStack() as stack:
        servers = start(stack, chosen, found)
        slowest = warm_up(servers, upload, found)
        found.rates = {share: share * slowest for share in SHARES}
        for number in range(told.rounds):
            one_round(number, servers, upload, told.seconds, found)
            print(f"round {number + 1} of {told.rounds}", flush=True)
    report.publish(
        report.Report(
            name="serving",
            method=f"A JPEG of {told.side} x {told.side} pixels ({len(upload) / 1e3:.0f} kB) is "
            "decoded, given to a model that does nothing, and encoded with quality 90. All servers "
            f"are up, and have turns of {told.seconds} s of each load in {told.rounds} rounds, "
            "A B A B, after one to warm up. The client shares the cores with them. Spread in "
            "brackets.",
            tables=tables(found),
            aims=aims(found),
            versions=versions(chosen),
            missing=found.missing,
        )
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(contestants.peers(b""))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each turn")
    parser.add_argument("--side", type=int, default=512, help="pixels each way")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="of the peers")
    return parser.parse_args()


def choose(upload: bytes, names: Sequence[str], found: Findings) -> list[Contestant]:
    """Install the peers, and find the best setting of each; Calotype is the first."""
    chosen = [contestants.calotype(upload)]
    for name, settings in contestants.peers(upload).items():
        if name in names:
            try:
                chosen.append(contestants.best(settings()))
            except peer.PeerMissingError as error:
                found.drop(name, str(error))
    return chosen


def start(stack: ExitStack, chosen: Sequence[Contestant], found: Findings) -> list[Running]:
    """Start all; those that give another picture than Calotype, or none, don't take part."""
    servers: list[Running] = []
    for one in chosen:
        folder = Path(stack.enter_context(contestants.folder()))
        try:
            server = stack.enter_context(contestants.started(folder, one))
        except peer.PeerMissingError as error:
            found.drop(one.name, str(error))
            continue
        mean, most = difference(servers[0] if servers else server, server)
        if mean > one.most_levels:
            found.drop(one.name, f"its picture is another one: {mean:.1f} levels, at most {most}")
            continue
        found.join(one, mean, most)
        servers.append(server)
        print(f"{one.name}, {one.setting}: up", flush=True)
    return servers


def difference(one: Running, another: Running) -> tuple[float, int]:
    """Return by how many levels two pictures differ, in the mean and at most."""
    a, b = (pictures.pixels_of(server.answer).astype(np.int16) for server in (one, another))
    if a.shape != b.shape:
        return float("inf"), 255
    apart = np.abs(a - b)
    return float(apart.mean()), int(apart.max())


def warm_up(servers: Sequence[Running], upload: bytes, found: Findings) -> float:
    """Have all of them work for a moment, and then rest; return what the slowest can do."""
    rates = []
    for server in servers:
        try:
            rates.append(uvloop.run(contestants.rate(server, WARM_UP_S)))
        except peer.PeerMissingError as error:
            found.drop(server.name, str(error))
    uvloop.run(repeat(codec_alone(upload), WARM_UP_S))
    before = {server.name: tree_cpu_s(server.pid) for server in servers}
    time.sleep(IDLE_S)
    for server in servers:
        found.idle[server.name] = (tree_cpu_s(server.pid) - before[server.name]) / IDLE_S
    return min(rates)


def one_round(
    number: int, servers: Sequence[Running], upload: bytes, seconds: float, found: Findings
) -> None:
    """Give each server a turn of every load; every other round in the opposite order."""
    in_order = servers if number % 2 else tuple(reversed(servers))
    work = codec_alone(upload)
    for clients in CLIENTS:
        if clients == 1:
            found.codec_s.append(uvloop.run(repeat(work, seconds)))
        for server in in_order:
            request = server.contestant.request
            turn(server, clients, closed_loop(server.port, request, clients, seconds), found)
    for share, rate in found.rates.items():
        plan = schedule(seconds, rate, seed=number)
        for server in in_order:
            turn(server, share, open_loop(server.port, server.contestant.request, plan), found)


def turn(server: Running, kind: float, work: Coroutine[Any, Any, Load], found: Findings) -> None:
    """Put one load on one server, and see what it costs; a server that fails is out."""
    if server.name in found.missing:
        work.close()
        return
    before_s = tree_cpu_s(server.pid)
    try:
        load = uvloop.run(work)
    except (LostError, OSError, RuntimeError) as error:
        found.drop(server.name, f"it fails under load {kind}: {error!r}")
        return
    cpu_s = tree_cpu_s(server.pid) - before_s
    found.note(server.name, kind, Turn(load, cpu_s, tree_bytes(server.pid)))


def versions(chosen: Sequence[Contestant]) -> dict[str, str]:
    """Return the versions of our packages, and of those of the peers that are others."""
    found = report.versions(*PACKAGES)
    for one in chosen:
        if one.peer is not None and one.peer.name != "bare":
            theirs = one.peer.versions()
            found |= {
                name if name not in found else f"{name} of {one.peer.name}": version
                for name, version in theirs.items()
                if found.get(name) != version
            }
    return found


if __name__ == "__main__":
    main()
