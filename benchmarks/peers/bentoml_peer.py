"""BentoML serving what the fake model of Calotype does: decode a JPEG, do nothing, encode it.

    python bentoml_peer.py --port 8001 --workers 2 [--threads 1]

Runs in an environment that has BentoML. The picture is the body itself, which BentoML hands over as
a file; the method runs on a thread of a worker. ``bentoml serve`` imports this file once more.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml  # type: ignore[import-not-found]
import jpeg  # type: ignore[import-not-found]
import numpy as np
from bentoml.validators import ContentType  # type: ignore[import-not-found]
from numpy.typing import NDArray

WORKERS, THREADS = "PEER_WORKERS", "PEER_THREADS"


@bentoml.service(
    workers=int(os.environ.get(WORKERS, "1")), threads=int(os.environ.get(THREADS, "1"))
)
class Echo:
    """Answers with the picture that it got."""

    def __init__(self) -> None:
        jpeg.set_up()

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    def predict(
        self, upload: Annotated[Path, ContentType("image/jpeg")], /
    ) -> Annotated[bytes, ContentType("image/jpeg")]:
        """Decode, do nothing, encode."""
        body: bytes = jpeg.encode(self.run(jpeg.decode(upload.read_bytes())))
        return body

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Do nothing."""
        return pixels


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    settings: dict[str, Any] = {
        WORKERS: told.workers,
        THREADS: told.threads,
        "BENTOML_DO_NOT_TRACK": True,
    }
    os.environ.update({name: str(value) for name, value in settings.items()})
    here = Path(__file__)
    serve = [sys.executable, "-m", "bentoml", "serve", f"{here.stem}:Echo"]
    serve += ["--working-dir", str(here.parent), "--host", "127.0.0.1", "--port", str(told.port)]
    os.execv(sys.executable, serve)  # noqa: S606  this program goes on as that one


if __name__ == "__main__":
    main()
