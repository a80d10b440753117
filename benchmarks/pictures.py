"""Pictures made of numbers, so that the benchmarks need no files."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

JPEG_QUALITY = 90


def noise(height_px: int, width_px: int, seed: int) -> bytes:
    """Return a PNG that nothing makes smaller: 3 bytes a pixel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return png(pixels)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a PNG, quickly."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def photo(side_px: int, seed: int = 0) -> bytes:
    """Return a JPEG that costs about what a photograph does: soft light, texture, some grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    light = np.stack([120 + 80 * np.sin(3 * x + 2 * y), 110 + 90 * y, 140 - 70 * x * y], axis=-1)
    coarse = rng.integers(0, 256, (side_px // 4, side_px // 4, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC)
    texture = np.asarray(large, np.float64) - 128
    pixels = light + 0.2 * texture + rng.normal(0, 3, light.shape)
    file = io.BytesIO()
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def pixels_of(body: bytes) -> NDArray[np.uint8]:
    """Return what is on a picture, (h, w, 3)."""
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGB"))
