"""The pictures that engines are compared with: photographs where there are some, else made ones."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import pictures
from calotype.domain.image import Pixels

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "eval" / "Kodak24"
STYLES = PHOTOS.with_name("styles")
MEGA = 1e6
STYLE_PX = 256


@cache
def scene(height_px: int, width_px: int) -> Pixels:
    """Return a cut from a photograph, or a montage of them if none is that large."""
    files = sorted(PHOTOS.glob("*.png"))
    if not files:
        side = max(height_px, width_px)
        return np.ascontiguousarray(pictures.pixels_of(pictures.photo(side))[:height_px, :width_px])
    photos = [pictures.pixels_of(file.read_bytes()) for file in files]
    wide = [photo if photo.shape[0] < photo.shape[1] else np.rot90(photo) for photo in photos]
    tall, broad, _ = wide[0].shape
    columns, rows = -(-width_px // broad), -(-height_px // tall)
    order = iter(np.arange(rows * columns) % len(wide))
    montage = np.vstack(
        [np.hstack([wide[next(order)] for _ in range(columns)]) for _ in range(rows)]
    )
    return np.ascontiguousarray(montage[:height_px, :width_px])


def style_picture() -> Pixels:
    """Return a painting, or a made picture, of the size that networks look at.

    Resized here once, so that how engines would do it makes no difference.
    """
    files = sorted(STYLES.glob("*.jpg"))
    if not files:
        return pictures.pixels_of(pictures.photo(STYLE_PX, seed=1))
    with Image.open(files[0]) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (STYLE_PX, STYLE_PX)))


def source() -> str:
    """Say what the pictures are, for the method."""
    if PHOTOS.is_dir():
        return "photographs of Kodak24"
    return f"made pictures, as {PHOTOS.parent.name}/{PHOTOS.name} is not beside the checkout"


def named(height_px: int, width_px: int) -> str:
    """Name a size for people."""
    pixels = height_px * width_px
    large = f", {pixels / MEGA:.0f} MP" if pixels >= MEGA else ""
    return f"{width_px} x {height_px}{large}"


def size(text: str) -> tuple[int, int]:
    """Read ``WxH``; returns (h, w)."""
    width, _, height = text.partition("x")
    return int(height), int(width)
