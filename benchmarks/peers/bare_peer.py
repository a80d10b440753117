"""The floors under every server: starlette and uvicorn, and only what can't be left out.

``/predict`` decodes a JPEG and encodes it on a thread; ``/digest`` digests what comes, which is how
a cache tells uploads apart, and gives as many bytes back.

    python bare_peer.py --port 8001 [--codec calotype]

Runs in Calotype's own environment, with the same starlette, uvicorn and libvips.
"""

import argparse
import asyncio
import hashlib
from collections.abc import Callable

import jpeg  # type: ignore[import-not-found]
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MAX_PIXELS = 50_000_000


def with_libvips() -> Callable[[bytes], bytes]:
    """Return what decodes and encodes as all peers do."""
    jpeg.set_up()

    def work(upload: bytes) -> bytes:
        body: bytes = jpeg.encode(jpeg.decode(upload))
        return body

    return work


def with_calotype() -> Callable[[bytes], bytes]:
    """Return what decodes and encodes as Calotype does, which need not take libvips."""
    from calotype.codec.decode import decode
    from calotype.codec.encode import EncodeOptions, encode

    def work(upload: bytes) -> bytes:
        return encode(decode(upload, MAX_PIXELS).image, "jpeg", EncodeOptions())

    return work


async def predict(request: Request) -> Response:
    """Answer with the picture that came."""
    body = await asyncio.to_thread(request.app.state.work, await request.body())
    return Response(body, media_type="image/jpeg")


async def digest(request: Request) -> Response:
    """Answer with the first body of this digest."""
    answers: dict[bytes, bytes] = request.app.state.answers
    body = await request.body()
    key = hashlib.blake2b(body, digest_size=32).digest()
    return Response(answers.setdefault(key, body), media_type="image/png")


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--codec", choices=("vips", "calotype"), default="vips")
    told = parser.parse_args()
    routes = [Route(f"/{do.__name__}", do, methods=["POST"]) for do in (predict, digest)]
    app = Starlette(routes=routes)
    app.state.answers = {}
    app.state.work = with_libvips() if told.codec == "vips" else with_calotype()
    uvicorn.run(
        app, port=told.port, loop="uvloop", http="httptools", log_level="error", access_log=False
    )


if __name__ == "__main__":
    main()
