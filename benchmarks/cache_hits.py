"""Requests a second of cached answers, beside a bare starlette route.

    .venv/bin/python benchmarks/cache_hits.py [--seconds 5] [--rounds 2] [--connections 4]

Both servers run under uvicorn (uvloop, httptools), one at a time, as processes of their own. A
third process sends the same picture of 100 kB over keep-alive connections. Calotype answers from
memory, with its logs on; the bare route digests the body and returns as many bytes, which is the
least that anything which tells uploads apart can do. The order alternates, so that whatever else
the machine does hits both; what counts is the median of the paired ratios.
"""

import argparse
import asyncio
import hashlib
import io
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import cast

import numpy as np
import uvicorn
import uvloop
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SIDE_PX = 185
"""A PNG of noise this wide and high takes 100 kB."""

PATHS = {"calotype": "/models/echo", "bare": "/"}


def noise() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bare_app() -> Starlette:
    answers: dict[bytes, bytes] = {}

    async def digest(request: Request) -> Response:
        body = await request.body()
        key = hashlib.blake2b(body, digest_size=32).digest()
        return Response(answers.setdefault(key, body), media_type="image/png")

    return Starlette(routes=[Route("/", digest, methods=["POST"])])


def calotype_app(folder: str) -> Starlette:
    from calotype.assembly import assemble, create_server
    from calotype.catalog.catalog import Catalog
    from calotype.domain.model import ModelSpec, ParamSpec
    from calotype.observe import logs
    from calotype.settings import Settings

    logs.set_up("info", "json")
    invert = ParamSpec(name="invert", type="boolean", help="inverts", default=False)
    spec = ModelSpec(id="test/echo", alias="echo", backend="fake", revision="1", params=(invert,))
    settings = Settings(
        default_model="echo", data_dir=f"{folder}/data", cache_dir=f"{folder}/cache"
    )
    return create_server(assemble(settings, Catalog([spec])))


def serve(which: str, port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = bare_app() if which == "bare" else calotype_app(folder)
        uvicorn.run(
            app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
        )


class Driver(asyncio.Protocol):
    """Sends one request after the other over one connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._left = 0
        self._head = b""
        self.answers = 0
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            self._left = int(lower[at:].split(b"\r\n", 1)[0])
            self.failures += b" 200 " not in head[:16]
            data = body
        self._left -= len(data)
        if self._left == 0:
            self.answers += 1
            self._transport.write(self._request)


async def drive(port: int, path: str, seconds: float, connections: int) -> float:
    body = noise()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    drivers = [Driver(head.encode() + body) for _ in range(connections)]
    transports = [
        (await loop.create_connection(lambda one=one: one, "127.0.0.1", port))[0]  # type: ignore[misc]
        for one in drivers
    ]
    await asyncio.sleep(0.5)  # the first answers are computed, and everything warms up
    before, started_s = sum(one.answers for one in drivers), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(one.answers for one in drivers) - before) / (time.perf_counter() - started_s)
    for transport in transports:
        transport.close()
    assert not any(one.failures for one in drivers), "a request failed"
    return rate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(which: str, seconds: float, connections: int) -> float:
    port = free_port()
    me = [sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(
        [*me, "--serve", which, "--port", str(port)], stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}{'/health' if which == 'calotype' else '/'}")
            told = [f"--seconds={seconds}", f"--connections={connections}", f"--port={port}"]
            done = subprocess.run(
                [*me, "--drive", which, *told],
                check=True,
                capture_output=True,
                text=True,
                timeout=seconds + 30,
            )
            return float(done.stdout)
        finally:
            server.terminate()


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310
        except urllib.error.HTTPError:
            return  # the bare route takes POST only
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} did not come up")


def compare(seconds: float, rounds: int, connections: int) -> None:
    ratios = []
    print(f"{'round':>5}  {'bare req/s':>10}  {'calotype req/s':>14}  {'ratio':>5}")
    for number in range(1, rounds + 1):
        order = ("bare", "calotype") if number % 2 else ("calotype", "bare")
        rates = {which: measure(which, seconds, connections) for which in order}
        ratios.append(rates["calotype"] / rates["bare"])
        print(
            f"{number:>5}  {rates['bare']:>10.0f}  {rates['calotype']:>14.0f}  {ratios[-1]:>5.2f}"
        )
    print(f"median of the ratios: {statistics.median(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--serve", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--drive", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        serve(told.serve, told.port)
    elif told.drive:
        print(uvloop.run(drive(told.port, PATHS[told.drive], told.seconds, told.connections)))
    else:
        compare(told.seconds, told.rounds, told.connections)


if __name__ == "__main__":
    main()
