"""The paths whose instructions are counted, run so that callgrind can tell one from the next.

    python tests/guard/paths.py FOLDER [WARM [WINDOWS]]

A script, which ``guard.callgrind`` runs under valgrind. Every window begins and ends with a call of
``os.getloadavg``, which nothing else makes, and whose function in the C library callgrind watches.
Whatever came before (imports, the first rounds) is in no window. Nothing here waits, and no other
thread works; the garbage collector is off, for when it runs depends on what else is in memory.
"""

import asyncio
import base64
import gc
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import numpy as np
import uvloop
from starlette.types import ASGIApp

from calotype.api import auth
from calotype.api.exchange import Exchange
from calotype.api.wire import read_request
from calotype.assembly import Services, assemble, create_server
from calotype.backends.tiling import run_tiled
from calotype.catalog.catalog import Catalog
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.tiling import Grid
from calotype.observe import logs
from calotype.settings import Settings

Message = MutableMapping[str, Any]
Once = Callable[[], Awaitable[None]]

ROUNDS = {"wire-raw": 100, "wire-json": 100, "cache-hit": 50, "tiling": 2}
"""Rounds in a window of each path, in the order of the windows."""
WARM, WINDOWS = 20, 3

_SIDE_PX = 32
"""A small picture, so that digesting it hides nothing of the rest."""
_PARAMETERS = {"invert": True, "strength": 0.25, "target_size": {"width": 64, "height": 64}}
_HEADERS = {
    "host": "127.0.0.1:8000",
    "user-agent": "python-httpx/0.28.1",
    "accept": "image/png, image/webp;q=0.8, */*;q=0.1",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "authorization": "Bearer hf_0123456789abcdefghijklmnopqrstuvwx",
    "x-use-cache": "true",
    "x-deadline-ms": "250000",
}


def picture() -> bytes:
    """Return a PNG of noise."""
    noise = np.random.default_rng(1).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in noise)
    head = struct.pack(">IIBBBBB", _SIDE_PX, _SIDE_PX, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def scope(body: bytes, content_type: str) -> dict[str, Any]:
    """Return an ASGI scope as uvicorn makes them."""
    named = {**_HEADERS, "content-type": content_type, "content-length": str(len(body))}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": "POST",
        "path": "/models/echo",
        "raw_path": b"/models/echo",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "state": {},
    }


class Line:
    """A connection: gives the body of each request in one piece, and then nothing more."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._is_read = False
        self.sent: list[Message] = []

    def begin(self) -> None:
        """Begin the next request."""
        self._is_read = False
        self.sent.clear()

    async def receive(self) -> Message:
        """Return the body, or wait until whoever waits is cancelled."""
        if self._is_read:
            await asyncio.get_running_loop().create_future()
        self._is_read = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Keep what is sent."""
        self.sent.append(message)


def wire(body: bytes, content_type: str, services: Services) -> Once:
    """Read headers and body."""
    told, line = scope(body, content_type), Line(body)
    chain, settings = services.catalog.chain("echo"), services.settings

    async def once() -> None:
        line.begin()
        request, warnings = await read_request(
            Exchange(told), line.receive, chain, "", settings, hooks=Hooks()
        )
        assert request.upload
        assert not warnings

    return once


def cache_hit(body: bytes, app: ASGIApp) -> Once:
    """Answer one request; all but the first from memory."""
    told, line = scope(body, "image/png"), Line(body)

    async def once() -> None:
        line.begin()
        await app(dict(told), line.receive, line.send)
        assert line.sent[0]["status"] == 200, line.sent
        assert line.sent[-1]["body"]

    return once


def tiling() -> Once:
    """Cut, fade and join a picture; its network repeats each pixel, and costs next to nothing."""
    pixels = np.random.default_rng(2).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    grid, hooks = Grid(tile_px=128, overlap_px=32, blend_px=16, align_px=4), Hooks()
    tile = np.zeros((256, 256, 3), np.uint8)

    async def once() -> None:
        assert run_tiled(pixels, grid, 2, lambda _: tile, hooks).shape == (800, 1200, 3)

    return once


def assembled(folder: str) -> Services:
    """Join the parts of a server with one model, which gives pictures back."""
    params = (
        ParamSpec(name="invert", type="boolean", help="inverts", default=False),
        ParamSpec(name="strength", type="number", help="", default=0.5, minimum=0, maximum=1),
    )
    spec = ModelSpec(id="test/echo", alias="echo", backend="fake", revision="1", params=params)
    settings = Settings(
        default_model="echo",
        data_dir=f"{folder}/data",
        cache_dir=f"{folder}/cache",
        cache_disk_bytes=0,
        isolation="thread",
    )
    return assemble(settings, Catalog([spec]))


async def run(folder: str, warm: int, windows: int) -> None:
    """Run all paths, window by window."""
    services = assembled(folder)
    app = create_server(services)
    upload = picture()
    text = base64.b64encode(upload).decode()
    document = json.dumps({"inputs": text, "parameters": _PARAMETERS}).encode()
    async with app.router.lifespan_context(app):
        paths = {
            "wire-raw": wire(upload, "image/png", services),
            "wire-json": wire(document, "application/json", services),
            "cache-hit": cache_hit(upload, app),
            "tiling": tiling(),
        }
        gc.disable()
        for name, rounds in ROUNDS.items():
            for _ in range(min(warm, rounds)):
                await paths[name]()
            for _ in range(windows):
                os.getloadavg()
                for _ in range(rounds):
                    await paths[name]()
                os.getloadavg()


def main(folder: str, warm: int = WARM, windows: int = WINDOWS) -> None:
    """Run everything in this process."""
    auth.CHECK_EVERY_S = math.inf  # or what is counted would depend on how slow the machine is
    logs.set_up("info", "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(folder, warm, windows))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
