"""Peak memory of `calotype run upscale-fast --scale 2` on a large photo.

    .venv/bin/python benchmarks/memory.py [--megapixels 6]

Also fine for a first look at speed: it prints seconds and megapixels a second.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=6)
    megapixels = parser.parse_args().megapixels
    width = round((megapixels * 1e6 * 1.5) ** 0.5)
    height = round(megapixels * 1e6 / width)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "in.jpg"), Path(folder, "out.jpg")
        coarse = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(source)
        environ = {**os.environ, "CALOTYPE_CACHE_DIR": folder, "CALOTYPE_DATA_DIR": folder}
        calotype = str(Path(sys.executable).with_name("calotype"))
        command = [calotype, "run", "upscale-fast", str(source), "-o", str(result)]
        command += ["--scale", "2", "-q"]
        started_s = time.perf_counter()
        subprocess.run(command, env=environ, check=True)
        took_s = time.perf_counter() - started_s
        size = result.stat().st_size
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{width}x{height} -> {2 * width}x{2 * height}, {size / 1e6:.1f} MB of JPEG")
    print(f"peak {peak_bytes / 1e6:.0f} MB resident, {took_s:.0f} s")


if __name__ == "__main__":
    main()
