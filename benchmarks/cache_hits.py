"""Requests a second of cached answers, beside a bare starlette route.

    .venv/bin/python benchmarks/cache_hits.py [--seconds 5] [--rounds 2] [--connections 4]

Both servers run under uvicorn (uvloop, httptools), one at a time, as processes of their own. A
third process sends the same picture of 100 kB over keep-alive connections. Calotype answers from
memory, with its logs on; the bare route digests the body and returns as many bytes, which is the
least that anything which tells uploads apart can do. The order alternates, so that whatever else
the machine does hits both; what counts is the median of the paired ratios.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import pictures
from http1 import post
from load import throughput
from server import free_port, wait_for

SIDE_PX = 185
"""A PNG of noise this wide and high takes 100 kB."""

PATHS = {"calotype": "/models/echo", "bare": "/"}


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
        request = post(PATHS[told.drive], pictures.noise(SIDE_PX, SIDE_PX, seed=1), {})
        print(uvloop.run(throughput(told.port, request, told.connections, told.seconds)))
    else:
        compare(told.seconds, told.rounds, told.connections)


if __name__ == "__main__":
    main()
