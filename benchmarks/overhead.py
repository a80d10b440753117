"""What everything but decoding and encoding costs, and how many pictures a second are left.

    .venv/bin/python benchmarks/overhead.py [--requests 300] [--rounds 6] [--seconds 4] [--no-peer]

The model does nothing. First one client sends a JPEG of 512 x 512 pixels again and again over one
connection; in turn with that, this process decodes and encodes the same picture with Calotype's own
codec, in the way the pipeline does. The difference of the medians is the overhead.

Then 16 clients send it to Calotype and to LitServe in turn, which does the same with the same
libvips. LitServe is installed into a folder of its own, and tried in several settings; it is
compared in the one that suits it best.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import uvloop

import bounds
import measure
import peer
import pictures
from calotype.codec.service import Codec, Limits
from calotype.domain.model import ModelSpec
from calotype.domain.request import Stage
from http1 import Connection, post
from load import ask_once, throughput
from server import serving

CATALOG = """
[[model]]
id = "bench/nothing"
backend = "fake"
"""
CLIENTS = 16
WARM_UP = 30
MOST_OVERHEAD_MS = 3.0
LEAST_RATIO = 1.5
TRIAL_S = 3.0
HEADERS = {"content-type": "image/jpeg", "accept": "image/jpeg", "x-use-cache": "false"}


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=300, help="for the overhead")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="of throughput, each, a round")
    parser.add_argument("--side", type=int, default=512, help="pixels each way")
    parser.add_argument("--no-peer", action="store_true", help="leave LitServe out")
    told = parser.parse_args()
    upload = pictures.photo(told.side)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(serving(folder, CATALOG)).port
        each = max(1, told.requests // told.rounds)
        rows = uvloop.run(overhead(port, upload, told.rounds, each))
        if not told.no_peer:
            rows += compare(folder, port, upload, told.rounds, told.seconds)
    print(f"\n{measure.machine()}\na JPEG of {told.side}x{told.side}, {len(upload) / 1e3:.0f} kB\n")
    bounds.conclude(rows)


async def overhead(port: int, upload: bytes, rounds: int, each: int) -> list[bounds.Bound]:
    """Time requests and the bare codec in turn."""
    connection = await Connection.open(port)
    request = post("/models/bench/nothing", upload, HEADERS)

    async def ask() -> None:
        answer = await connection.ask(request)
        assert answer.status == 200, answer.head

    codec = codec_alone(upload)
    await timed(ask, WARM_UP)
    await timed(codec, WARM_UP)
    requests_ms, codec_ms = [], []
    for _ in range(rounds):
        requests_ms.append(await timed(ask, each))
        codec_ms.append(await timed(codec, each))
    connection.close()
    total = statistics.median(ms for turn in requests_ms for ms in turn)
    alone = statistics.median(ms for turn in codec_ms for ms in turn)
    pairs = zip(requests_ms, codec_ms, strict=True)
    apart = [statistics.median(a) - statistics.median(b) for a, b in pairs]
    return [
        bounds.note("request, median", total, "ms"),
        bounds.note("decode and encode alone, median", alone, "ms"),
        bounds.at_most("overhead", total - alone, MOST_OVERHEAD_MS, "ms"),
        bounds.note("overhead, lowest round", min(apart), "ms"),
        bounds.note("overhead, highest round", max(apart), "ms"),
    ]


async def timed(work: Callable[[], Awaitable[None]], times: int) -> list[float]:
    """Do something again and again; return the milliseconds of each."""
    found = []
    for _ in range(times):
        started_s = time.perf_counter()
        await work()
        found.append((time.perf_counter() - started_s) * 1e3)
    return found


def codec_alone(upload: bytes) -> Callable[[], Awaitable[None]]:
    """Return what decodes and encodes as the pipeline does, and nothing else."""
    codec = Codec(limits=Limits(max_pixels=50_000_000, max_output_pixels=250_000_000))
    model = ModelSpec(id="bench/nothing", backend="fake", revision="1")
    stages = (Stage(model=model, values={}),)
    formats = codec.choose_formats(upload, ("jpeg",), {})

    async def work() -> None:
        decoded = await codec.decode(upload, stages, formats)
        inputs = await codec.prepare(stages, decoded.image, decoded.images[0])
        made = await codec.finish(stages[0], inputs, inputs.image)
        await codec.encode(made, decoded, formats)

    return work


def compare(
    folder: Path, port: int, upload: bytes, rounds: int, seconds: float
) -> list[bounds.Bound]:
    """Count pictures a second of Calotype and of LitServe at its best, in turn."""
    python = peer.install()
    request = post("/predict", upload, {"content-type": "image/jpeg"})
    best = best_setting(folder, python, request)
    ours: list[float] = []
    theirs: list[float] = []
    with peer.litserve(folder, python, best) as other:
        sides = [
            (ours, port, post("/models/bench/nothing", upload, HEADERS)),
            (theirs, other, request),
        ]
        answers = [uvloop.run(ask_once(where, what)).body for _, where, what in sides]
        one, another = (pictures.pixels_of(body) for body in answers)
        if not np.array_equal(one, another):
            raise SystemExit("Calotype and LitServe answer different pictures")
        for number in range(rounds):
            for rates, where, what in sides if number % 2 else reversed(sides):
                rates.append(uvloop.run(throughput(where, what, CLIENTS, seconds)))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [
        bounds.note("Calotype, median", statistics.median(ours), "pictures/s"),
        bounds.note(f"LitServe ({best}), median", statistics.median(theirs), "pictures/s"),
        bounds.at_least("median of the paired ratios", statistics.median(ratios), LEAST_RATIO),
        bounds.note("lowest ratio", min(ratios)),
        bounds.note("highest ratio", max(ratios)),
    ]


def best_setting(folder: Path, python: Path, request: bytes) -> peer.Setting:
    """Try LitServe in each setting; return the one in which it is fastest."""
    trials = {}
    for setting in peer.SETTINGS:
        with peer.litserve(folder, python, setting) as port:
            trials[setting] = uvloop.run(throughput(port, request, CLIENTS, TRIAL_S))
        print(f"LitServe, {setting}: {trials[setting]:.0f} pictures/s", flush=True)
    return max(trials, key=lambda setting: trials[setting])


if __name__ == "__main__":
    main()
