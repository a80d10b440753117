"""The FastAPI script that people write: a form in, Pillow, do nothing, Pillow, a picture out.

    python fastapi_peer.py --port 8001 [--codec vips]

Runs in an environment that has FastAPI, uvicorn as FastAPI's standard set brings it, and Pillow.
FastAPI runs the endpoint on one of its threads; uvicorn has its defaults.
"""

import argparse
import io
from collections.abc import Callable
from typing import Any

import jpeg  # type: ignore[import-not-found]
import numpy as np
import uvicorn
from fastapi import FastAPI, Response, UploadFile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def decode(body: bytes) -> Pixels:
    """Decode with Pillow."""
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def encode(pixels: Pixels) -> bytes:
    """Encode with Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=jpeg.QUALITY)
    return file.getvalue()


def run(pixels: Pixels) -> Pixels:
    """Do nothing."""
    return pixels


def create_app(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> FastAPI:
    """Make the app with either codec."""
    app = FastAPI()

    @app.post("/predict")  # type: ignore[untyped-decorator]
    def predict(file: UploadFile) -> Response:
        pixels = run(decode(file.file.read()))
        return Response(encode(pixels), media_type="image/jpeg")

    return app


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--codec", choices=("pillow", "vips"), default="pillow")
    told = parser.parse_args()
    jpeg.set_up()
    codec = (decode, encode) if told.codec == "pillow" else (jpeg.decode, jpeg.encode)
    uvicorn.run(create_app(*codec), host="127.0.0.1", port=told.port)


if __name__ == "__main__":
    main()
