"""Photographs that quality is measured with: those beside the checkout, else made ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import pictures

Pixels = NDArray[np.uint8]
DATA = Path(__file__).parents[2] / "shared" / "data" / "eval"
"""Beside the checkout, never a part of it."""
MADE, MADE_PX = 6, 768


@dataclass(frozen=True, slots=True)
class Photo:
    """One picture by name."""

    name: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Photos:
    """A set of pictures."""

    words: str
    """What they are, for the report."""
    all: Sequence[Photo]

    def __getitem__(self, number: int) -> Pixels:
        """Return the pixels of one; their number wraps around."""
        return self.all[number % len(self.all)].pixels


def photographs(data: Path, name: str = "Kodak24", *, every: int = 1) -> Photos:
    """Return a set, or made pictures where there is none.

    Args:
        data: folder of the sets.
        name: of the set.
        every: take only every so manieth picture.
    """
    files = sorted((data / name).glob("*.png"))[::every]
    if not files:
        print(f"{data / name} isn't there: made pictures take its place", flush=True)
        made = [pictures.pixels_of(pictures.photo(MADE_PX, seed)) for seed in range(MADE)]
        named = [Photo(f"made {number}", pixels) for number, pixels in enumerate(made)]
        return Photos(f"{MADE} made pictures, as {name} isn't here", named)
    photos = [Photo(file.stem, pixels_of(file)) for file in files]
    return Photos(f"{len(photos)} pictures of {name}", photos)


def pixels_of(file: Path) -> Pixels:
    """Read a picture, (h, w, 3)."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def crop(pixels: Pixels, height_px: int, width_px: int) -> Pixels:
    """Cut out the middle."""
    top, left = (pixels.shape[0] - height_px) // 2, (pixels.shape[1] - width_px) // 2
    if min(top, left) < 0:
        raise ValueError(f"{pixels.shape} has no {height_px}x{width_px}")
    return np.ascontiguousarray(pixels[top : top + height_px, left : left + width_px])


def gray(pixels: Pixels) -> Pixels:
    """Take the colours away: three equal channels of luma."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def mosaic(photos: Photos, height_px: int, width_px: int) -> Pixels:
    """Lay pictures side by side until they fill a larger one."""
    h, w = (min(photo.pixels.shape[axis] for photo in photos.all) for axis in (0, 1))
    down, right = -(-height_px // h), -(-width_px // w)
    rows = [
        np.hstack([crop(photos[row * right + column], h, w) for column in range(right)])
        for row in range(down)
    ]
    return np.ascontiguousarray(np.vstack(rows)[:height_px, :width_px])


def psnr(found: Pixels, truth: Pixels) -> float:
    """Return PSNR over all pixels and channels, dB; infinite where they are equal."""
    mse = float(np.mean((found.astype(np.float64) - truth) ** 2))
    return float(10 * np.log10(255**2 / mse)) if mse else float("inf")
