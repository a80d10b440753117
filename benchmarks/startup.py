"""From the command to the first answer, and what the server weighs before any model.

    .venv/bin/python benchmarks/startup.py [--rounds 5]

Each round starts `calotype serve` anew. The cache folder is kept between rounds, so that from the
second on compiled networks are found; answers are not cached.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

POLL_S = 0.01
GIVE_UP_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        found = [one_round(folder, 18500 + n) for n in range(rounds + 1)]
    print("round 0 compiles; the others find what it compiled")
    print("| round | /health | first style picture | memory before a model |")
    print("|---|---|---|---|")
    for number, (alive_s, picture_s, rss) in enumerate(found):
        print(f"| {number} | {alive_s:.2f} s | {picture_s:.2f} s | {rss / 1e6:.0f} MB |")
    warm = found[1:]
    alive_s, picture_s, rss = (statistics.median(row[i] for row in warm) for i in range(3))
    print(f"| median | {alive_s:.2f} s | {picture_s:.2f} s | {rss / 1e6:.0f} MB |")


def one_round(folder: str, port: int) -> tuple[float, float, float]:
    """Return seconds to /health, seconds to the first style picture, bytes resident between."""
    environ = {
        **os.environ,
        "CALOTYPE_CACHE_DIR": f"{folder}/cache",
        "CALOTYPE_DATA_DIR": f"{folder}/data",
        "CALOTYPE_CACHE_DISK_BYTES": "0",
    }
    calotype = str(Path(sys.executable).with_name("calotype"))
    command = [calotype, "serve", "--port", str(port), "--log-level", "warning"]
    started_s = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        alive_s = time.perf_counter() - started_s
        resident = float(psutil.Process(process.pid).memory_info().rss)
        post(f"http://127.0.0.1:{port}/models/style", picture())
        return alive_s, time.perf_counter() - started_s, resident
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Poll until the server answers."""
    give_up_s = time.perf_counter() + GIVE_UP_S
    while True:
        try:
            urllib.request.urlopen(url).read()  # noqa: S310
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
