"""Peak memory of `calotype run MODEL` on large photos; with several sizes, whether it is flat.

    .venv/bin/python benchmarks/memory.py [--megapixels 25 100] [--model upscale-fast] [--scale 2]
        [--source jpg] [--result png] [--keep FOLDER]

`--model echo` is no network: it shows in seconds what reading and writing take. Also fine for a
first look at speed: it prints seconds and megapixels a second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyvips

ECHO = """
[[model]]
id = "benchmark/echo"
alias = "echo"
backend = "fake"
scale = 2
"""
COARSE_PX = 40
"""Side of the squares of noise that a picture is made of."""


def make_picture(path: Path, megapixels: float) -> tuple[int, int]:
    """Write smooth noise to a file, without ever holding it."""
    width = round((megapixels * 1e6 * 1.5) ** 0.5)
    height = round(megapixels * 1e6 / width)
    columns, rows = -(-width // COARSE_PX), -(-height // COARSE_PX)
    planes = [
        pyvips.Image.gaussnoise(columns, rows, mean=128, sigma=50, seed=seed) for seed in range(3)
    ]
    coarse = planes[0].bandjoin(planes[1:]).copy_memory()
    smooth = coarse.affine(
        [COARSE_PX, 0, 0, COARSE_PX],
        interpolate=pyvips.Interpolate.new("bicubic"),
        oarea=[0, 0, width, height],
        extend="copy",
    )
    smooth.cast("uchar").copy(interpretation="srgb").write_to_file(str(path))
    return width, height


def run(command: list[str], folder: Path) -> tuple[float, int]:
    """Run a command; seconds, and the most that it held resident at once, in bytes."""
    environ = {
        **os.environ,
        "CALOTYPE_CACHE_DIR": str(folder),
        "CALOTYPE_DATA_DIR": str(folder),
        "CALOTYPE_CATALOG_FILE": str(folder / "echo.toml"),
    }
    started_s = time.perf_counter()
    with subprocess.Popen(command, env=environ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - started_s, usage.ru_maxrss * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[6])
    parser.add_argument("--model", default="upscale-fast")
    parser.add_argument("--scale", default="2")
    parser.add_argument("--source", default="jpg", choices=("jpg", "png", "tif"))
    parser.add_argument("--result", default="jpg", choices=("jpg", "png", "webp"))
    parser.add_argument("--keep", type=Path, help="folder where the pictures stay")
    args = parser.parse_args()
    calotype = str(Path(sys.executable).with_name("calotype"))
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        Path(name, "echo.toml").write_text(ECHO)
        scale = ["--scale", args.scale] if args.model == "upscale-fast" else []
        for megapixels in args.megapixels:
            source = folder / f"in-{megapixels:g}.{args.source}"
            result = folder / f"out-{megapixels:g}.{args.result}"
            width, height = make_picture(source, megapixels)
            command = [calotype, "run", args.model, str(source), "-o", str(result), "-q"]
            seconds, peak_bytes = run([*command, "--overwrite", *scale], Path(name))
            made = pyvips.Image.new_from_file(str(result), access="sequential")
            print(
                f"{width}x{height} -> {made.width}x{made.height},"
                f" {result.stat().st_size / 1e6:.1f} MB of {args.result}:"
                f" peak {peak_bytes / 1e6:.0f} MB resident, {seconds:.0f} s,"
                f" {width * height / 1e6 / seconds:.2f} MP/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
