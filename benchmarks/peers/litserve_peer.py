"""LitServe serving what the fake model of Calotype does: decode a JPEG, do nothing, encode it.

    python litserve_peer.py --port 8001 --workers 2 [--fast-queue]

Runs in an environment that has LitServe. The picture is the body itself: that was a fifth to a
third quicker here than a form, which is the other way to get bytes into LitServe without base64;
the request it hands out by itself is parsed.
"""

import argparse
from typing import Annotated

import jpeg  # type: ignore[import-not-found]
import litserve  # type: ignore[import-not-found]
import numpy as np
from fastapi import Depends, Request, Response
from numpy.typing import NDArray


async def read_body(request: Request) -> bytes:
    """Return the upload as it came."""
    body: bytes = await request.body()
    return body


class Echo(litserve.LitAPI):  # type: ignore[misc]
    """Answers with the picture that it got."""

    def setup(self, device: str) -> None:
        """Set up libvips in the worker."""
        del device
        jpeg.set_up()

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]) -> NDArray[np.uint8]:
        """Decode the upload."""
        pixels: NDArray[np.uint8] = jpeg.decode(request)
        return pixels

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Do nothing."""
        return x

    def encode_response(self, output: NDArray[np.uint8]) -> Response:
        """Encode the result."""
        return Response(jpeg.encode(output), media_type="image/jpeg")


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fast-queue", action="store_true", help="ZeroMQ for what workers answer")
    told = parser.parse_args()
    server = litserve.LitServer(
        Echo(),
        accelerator="cpu",
        devices=1,
        workers_per_device=told.workers,
        fast_queue=told.fast_queue,
    )
    server.run(
        host="127.0.0.1",
        port=told.port,
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main()
