"""Folders with an odd picture between two plain ones: what comes out, as a program sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

import command
import pictures
import report
import testset
from folder_contestants import FAST, Contestant

WIDTH, HEIGHT = 96, 64
"""Neither square, so that a wrong turn shows, nor large: this is no race."""
LIMIT_S = 600.0
NEAR = 12
"""Of 255, on average: a channel is still the same after it was made larger and smaller again."""
ORIENTATION, TURNED_RIGHT = 0x0112, 6
PNG_DEPTH_AT = 24
BROKEN_BYTES = 900


@dataclass(frozen=True, slots=True)
class Odd:
    """One odd picture."""

    words: str
    name: str
    write: Callable[[Path], None]
    judge: Callable[[Path], str]
    """Says what a result is like."""


def table(contestants: Sequence[Contestant], folder: Path) -> report.Table:
    """Run every contestant over a folder for each oddity."""
    rows = []
    for odd in ODDITIES:
        source = folder / f"odd {odd.name}"
        source.mkdir()
        for plain in ("a.png", "z.png"):
            Image.fromarray(_scene()).save(source / plain)
        odd.write(source / odd.name)
        cells = [_verdict(contestant, odd, source) for contestant in contestants]
        print(f"  {odd.words}: {cells}", flush=True)
        rows.append((odd.words, *cells))
    columns = ("in a folder with two plain pictures", *(one.name for one in contestants))
    return report.Table(f"What came out, `{FAST}`", columns, tuple(rows))


def _verdict(contestant: Contestant, odd: Odd, source: Path) -> str:
    """Run one contestant, and say what became of the odd picture and of the others."""
    target = source.with_name(f"{source.name}, {contestant.name}")
    words = contestant.command(FAST, source, target)
    usage = command.run(words, contestant.environ, source.with_suffix(".log"), LIMIT_S)
    result = target / odd.name
    if result.exists():
        parts = [odd.judge(result)]
    else:
        parts = ["no result, named in the error" if odd.name in usage.said else "no result"]
    others = sum((target / plain).exists() for plain in ("a.png", "z.png"))
    parts += [f"{others} of 2 others done", usage.how_it_ended()]
    return "; ".join(part for part in parts if part)


def _scene() -> testset.Pixels:
    photo = Image.fromarray(pictures.pixels_of(pictures.photo(256)))
    return np.asarray(photo.resize((WIDTH, WIDTH), Image.Resampling.LANCZOS))[:HEIGHT]


def _alpha() -> testset.Pixels:
    """Clear on the left, opaque on the right."""
    return np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))


def _write_broken(file: Path) -> None:
    Image.fromarray(_scene()).save(file, quality=90)
    file.write_bytes(file.read_bytes()[:BROKEN_BYTES])


def _write_deep(file: Path) -> None:
    pixels = np.dstack([_scene(), _alpha()]).astype(np.uint16) * 257  # 8 bits -> 16
    cv2.imwrite(str(file), cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA))


def _write_turned(file: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_RIGHT
    Image.fromarray(_scene()).save(file, quality=90, exif=exif)


def _judge_broken(result: Path) -> str:
    with Image.open(result) as image:
        return f"a result of {image.width} x {image.height}"


def _judge_deep(result: Path) -> str:
    depth = result.read_bytes()[PNG_DEPTH_AT]
    with Image.open(result) as image:
        if "A" not in image.getbands():
            return f"{depth} bits, alpha lost"
        found = image.getchannel("A").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    kept = _apart(np.asarray(found), _alpha()) <= NEAR
    return f"{depth} bits, alpha {'kept' if kept else 'is another'}"


def _judge_turned(result: Path) -> str:
    """Compare what a viewer shows, which heeds EXIF, with both ways it could be turned."""
    wanted = np.rot90(_scene(), -1)  # turned right
    with Image.open(result) as image:
        shown = ImageOps.exif_transpose(image).convert("RGB")
    if (shown.width > shown.height) != (wanted.shape[1] > wanted.shape[0]):
        return "lies on its side"
    found = np.asarray(shown.resize((HEIGHT, WIDTH), Image.Resampling.BOX))
    right = _apart(found, wanted) < _apart(found, np.rot90(wanted, 2))
    return "upright" if right else "upside down"


def _apart(a: testset.Pixels, b: testset.Pixels) -> float:
    return float(np.mean(np.abs(a.astype(np.float64) - b)))


ODDITIES = (
    Odd("a JPEG cut off", "broken.jpg", _write_broken, _judge_broken),
    Odd("a PNG of 16 bits with alpha", "deep.png", _write_deep, _judge_deep),
    Odd("a JPEG turned by EXIF", "turned.jpg", _write_turned, _judge_turned),
)
