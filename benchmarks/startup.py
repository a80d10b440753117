"""From the command to the first answer, and what the server weighs before any model.

    .venv/bin/python benchmarks/startup.py [--rounds 5]

Each round starts `calotype serve` anew. The cache folder is kept between rounds, so that from the
second on compiled networks are found; answers are not cached. In turn with it starts a bare
starlette app under uvicorn with libvips, the least that a server of pictures in Python takes.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import bounds
import peer
import report
from server import clean_environment, free_port, running, serving_all

POLL_S = 0.01
GIVE_UP_S = 60.0
MOST_PICTURE_S = 2.0


@dataclass(frozen=True, slots=True)
class Start:
    """What one start took, from the command on."""

    alive_s: float
    """Until /health is answered."""
    picture_s: float
    """Until the first picture of `style` is there."""
    rss_bytes: float
    """Resident before that picture."""
    bare_s: float
    """Until the bare server answers."""


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        found = []
        for number in range(rounds + 1):
            found.append(one_round(Path(name)))
            print(f"start {number} of {rounds}: {found[-1].picture_s:.2f} s", flush=True)
    first, warm = found[0], found[1:]
    picture_s = statistics.median(one.picture_s for one in warm)
    report.publish(
        report.Report(
            name="startup",
            method=f"`calotype serve` is started {rounds} times with the compiled networks of an "
            "earlier start, in turn with a bare starlette app under uvicorn with libvips. Medians, "
            "spread in brackets. A picture is 768 x 512.",
            tables=(table(warm, first),),
            aims=[
                bounds.at_most(
                    "command to the first `style` picture", picture_s, MOST_PICTURE_S, "s"
                )
            ],
            versions=report.versions("calotype", "openvino", "starlette", "uvicorn", "pyvips"),
        )
    )


def table(warm: list[Start], first: Start) -> report.Table:
    """Sum up the starts."""
    rows: tuple[tuple[report.Cell, ...], ...] = (
        ("command to an answer of `/health`, s", spread([one.alive_s for one in warm])),
        ("the bare server, s", spread([one.bare_s for one in warm])),
        ("command to the first `style` picture, s", spread([one.picture_s for one in warm])),
        ("the same with nothing compiled yet, s", f"{first.picture_s:.2f}"),
        ("memory before a model is loaded, MB", statistics.median(o.rss_bytes for o in warm) / 1e6),
    )
    return report.Table("Start", ("", "median"), rows)


def spread(values: list[float]) -> str:
    """Write the median, the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def one_round(folder: Path) -> Start:
    """Start both servers once."""
    began_s = time.perf_counter()
    with serving_all(folder, "--cache-disk-bytes", "0") as server:
        url = f"http://127.0.0.1:{server.port}"
        wait_for(f"{url}/health")
        alive_s = time.perf_counter() - began_s
        resident = float(psutil.Process(server.process.pid).memory_info().rss)
        post(f"{url}/models/style", picture())
        picture_s = time.perf_counter() - began_s
    port, script = free_port(), str(peer.PEERS / "bare_peer.py")
    command = [sys.executable, script, "--port", str(port)]
    began_s = time.perf_counter()
    with running(command, folder / "bare.log", clean_environment(folder)):
        wait_for(f"http://127.0.0.1:{port}/")
        bare_s = time.perf_counter() - began_s
    return Start(alive_s, picture_s, resident, bare_s)


def wait_for(url: str) -> None:
    """Poll until the server answers, whatever it says."""
    give_up_s = time.perf_counter() + GIVE_UP_S
    while True:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if time.perf_counter() > give_up_s:
                raise
            time.sleep(POLL_S)
        else:
            return


def picture() -> bytes:
    """Return a JPEG of 768x512."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((768, 512)).save(file, "JPEG")
    return file.getvalue()


def post(url: str, body: bytes) -> bytes:
    """Send a picture, return the answer."""
    request = urllib.request.Request(url, body)  # noqa: S310
    answer: bytes = urllib.request.urlopen(request).read()  # noqa: S310
    return answer


if __name__ == "__main__":
    main()
