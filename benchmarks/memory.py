"""Peak memory of `calotype run MODEL` on large photos; with several sizes, whether it is flat.

    .venv/bin/python benchmarks/memory.py [--megapixels 25 100] [--models echo upscale-fast]
        [--source jpg] [--result png] [--keep FOLDER]

`echo` is no network: it shows in seconds what reading and writing take.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyvips

import bounds
import report

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
    """Measure, and publish."""
    told = options()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = told.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        Path(name, "echo.toml").write_text(ECHO)
        for model, megapixels in itertools.product(told.models, told.megapixels):
            rows.append(measured(model, megapixels, told, folder, Path(name)))
            print(rows[-1], flush=True)
    smallest, largest = min(told.megapixels), max(told.megapixels)
    report.publish(
        report.Report(
            name="memory",
            method="`calotype run` makes a picture twice as wide and as high, from one file into "
            "another. `echo` is no network, and shows what reading and writing take. Memory is the "
            "most that the process held resident.",
            tables=(
                report.Table("Large pictures, twice as wide and as high", COLUMNS, tuple(rows)),
            ),
            aims=[growth(model, rows, smallest, largest) for model in told.models]
            if largest > smallest
            else [],
            versions=report.versions("calotype", "openvino", "pyvips", "pyvips-binary"),
        )
    )


COLUMNS = ("model", "megapixels", "input", "result", "result, MB", "peak, MB", "seconds", "MP/s")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=float, nargs="+", default=[25, 100])
    parser.add_argument("--models", nargs="+", default=["echo"])
    parser.add_argument("--source", default="jpg", choices=("jpg", "png", "tif"))
    parser.add_argument("--result", default="jpg", choices=("jpg", "png", "webp"))
    parser.add_argument("--keep", type=Path, help="folder where the pictures stay")
    return parser.parse_args()


def measured(
    model: str, megapixels: float, told: argparse.Namespace, folder: Path, home: Path
) -> tuple[report.Cell, ...]:
    """Run one picture; return its row."""
    source = folder / f"in-{megapixels:g}.{told.source}"
    result = folder / f"out-{megapixels:g}.{told.result}"
    width, height = make_picture(source, megapixels)
    calotype = str(Path(sys.executable).with_name("calotype"))
    command = [calotype, "run", model, str(source), "-o", str(result), "-q", "--overwrite"]
    seconds, peak_bytes = run([*command, *([] if model == "echo" else ["--scale", "2"])], home)
    made = pyvips.Image.new_from_file(str(result), access="sequential")
    return (
        f"`{model}`",
        megapixels,
        f"{width}x{height} {told.source}",
        f"{made.width}x{made.height} {told.result}",
        result.stat().st_size / 1e6,
        peak_bytes / 1e6,
        seconds,
        width * height / 1e6 / seconds,
    )


def growth(
    model: str, rows: list[tuple[report.Cell, ...]], smallest: float, largest: float
) -> bounds.Bound:
    """Promise that memory goes by the width of a picture, which grows by the root of its size."""
    peaks = {row[1]: row[5] for row in rows if row[0] == f"`{model}`"}
    most, least = peaks[largest], peaks[smallest]
    assert isinstance(most, float)
    assert isinstance(least, float)
    what = f"`{model}`: memory with {largest:g} megapixels, of that with {smallest:g}, times"
    return bounds.at_most(what, most / least, (largest / smallest) ** 0.5)


if __name__ == "__main__":
    main()
