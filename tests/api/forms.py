"""Forms as OpenAI's clients send them, models for them, and how their answers are read."""

import base64
import io
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
from PIL import Image

from api.server import DRAW, ECHO, INVERT, SEED, STYLE_IMAGE, Server, fake, picture
from calotype.domain.model import ParamSpec

MASK = ParamSpec(name="mask_image", type="image", help="what to repaint")
STRENGTH = ParamSpec(name="strength", type="number", help="", default=0.5, minimum=0, maximum=1)
PROMPT = ParamSpec(name="prompt", type="string", help="what to do")
GUIDE = ParamSpec(name="guide", type="image", help="another picture")
REPAINT = fake("repaint", INVERT, MASK)
STYLE = fake("style", STYLE_IMAGE, GUIDE)
PAINT = fake("paint", SEED, PROMPT, STRENGTH)
SMALL_SEED = fake("small-seed", replace(SEED, minimum=10, maximum=12))
UP = replace(fake("up", INVERT), scale=2)
CRASH = fake("crash", fail="crash")
MODELS = (ECHO, DRAW, STYLE, REPAINT, PAINT, SMALL_SEED, UP, CRASH)
URL = "/v1/images/edits"

Files = list[tuple[str, tuple[str, bytes]]]


async def edit(
    server: Server,
    *images: bytes,
    files: dict[str, bytes] | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,  # noqa: ANN401
) -> httpx.Response:
    """Post a form; several images as OpenAI's clients name them."""
    name = "image[]" if len(images) > 1 else "image"
    sent: Files = [(name, ("a.png", image)) for image in images or (picture(),)]
    sent += [(name, ("b.png", content)) for name, content in (files or {}).items()]
    data = {key.replace("__", "."): value for key, value in fields.items()}
    return await server.client.post(URL, files=sent, data=data, headers=headers)


def made(response: httpx.Response) -> list[bytes]:
    """Return the pictures of an answer."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return [base64.b64decode(one["b64_json"]) for one in response.json()["data"]]


def error_of(response: httpx.Response) -> tuple[int, str, str | None, str, str]:
    """Check that an answer is an error in OpenAI's form; return what it says."""
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"].startswith(response.headers["x-error-message"][:100])
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "/secret" not in response.text
    return response.status_code, error["type"], error["param"], error["code"], error["message"]


def file(pixels: np.ndarray[Any, np.dtype[np.uint8]], kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def holes(h: int = 40, w: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture that is transparent where it is to be edited."""
    mask = np.full((h, w, 4), 255, np.uint8)
    mask[10:20, 30:45, 3] = 0
    return mask


def photo(h: int = 40, w: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 100, (h, w, 3), dtype=np.uint8)


def form_of(*parts: tuple[str, bytes, bool], boundary: bytes = b"b") -> bytes:
    """Write a form by hand."""
    written = b""
    for name, content, is_file in parts:
        head = f'Content-Disposition: form-data; name="{name}"'.encode()
        head += b'; filename="a"' if is_file else b""
        written += b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    return written + b"--" + boundary + b"--\r\n"
