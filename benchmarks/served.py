"""Pictures as clients get them: over HTTP, from ``calotype serve``, as PNG."""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pictures
from server import serving_all
from testset import Pixels

DEADLINE_MS = 900_000
HEADERS = {
    "accept": "image/png",
    "content-type": "application/json",
    "x-deadline-ms": str(DEADLINE_MS),
    "x-use-cache": "false",
    "x-wait-for-model": "true",
}

Parameter = str | int | float | bool | Pixels
"""Of a request; pixels are sent as PNG."""


class RefusedError(Exception):
    """The server answered with an error; the text is its own."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    port: int

    def precision(self, model: str) -> str:
        """Load a model; return what it computes in, and why.

        Raises:
            RefusedError: it can't be loaded.
        """
        told = json.loads(self._post(f"/models/{model}/load", b""))
        return str(told["precision"])

    def picture(self, model: str, pixels: Pixels, parameters: Mapping[str, Parameter]) -> Pixels:
        """Send a picture; return the answer's pixels.

        Raises:
            RefusedError: there is none.
        """
        body = {
            "inputs": _base64(pixels),
            "parameters": {
                name: value if isinstance(value, str | int | float) else _base64(value)
                for name, value in parameters.items()
            },
        }
        return pictures.pixels_of(self._post(f"/models/{model}", json.dumps(body).encode()))

    def _post(self, path: str, body: bytes) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, HEADERS, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_MS / 1000) as answer:  # noqa: S310
                content: bytes = answer.read()
        except urllib.error.HTTPError as error:
            raise RefusedError(f"{path}: {error.code} {error.read()[:500].decode()}") from error
        return content


@contextlib.contextmanager
def serving(folder: Path, precision: str) -> Iterator[Served]:
    """Serve all models that come along.

    Args:
        folder: where the server's files go.
        precision: as the setting of that name.
    """
    folder.mkdir()
    with serving_all(folder, "--precision", precision) as server:
        yield Served(server.port)


def _base64(pixels: Pixels) -> str:
    return base64.b64encode(pictures.png(pixels)).decode()
