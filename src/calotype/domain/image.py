"""The one image type that crosses module borders, and the one pixel convention.

Axis letters used all over the package: n batch, c channels, h w pixels, th tw tile, s scale.
Sizes are (height, width) everywhere but on the wire, where they are named.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(h, w, 3) uint8, RGB, sRGB-encoded, 0..255, C-contiguous."""

Plane = NDArray[np.uint8]
"""(h, w) uint8, 0..255, C-contiguous: an alpha channel or a mask."""

RGB = 3
"""Channels of ``Pixels``."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in the luma of JPEG. Source: ITU-R BT.601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A picture's size in pixels; both sides at least 1."""

    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"a size has at least one pixel each way, got {self}")

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"

    @property
    def pixels(self) -> int:
        """How many pixels that is."""
        return self.height_px * self.width_px

    def times(self, scale: int) -> "Size":
        """Return the size with both sides multiplied."""
        return Size(height_px=self.height_px * scale, width_px=self.width_px * scale)


@dataclass(frozen=True, slots=True)
class Image:
    """Decoded pixels, upright, in sRGB."""

    pixels: Pixels
    """(h, w, 3) uint8, RGB, 0..255."""
    alpha: Plane | None = None
    """(h, w) uint8, 0 transparent .. 255 opaque, not premultiplied; None means opaque."""

    def __post_init__(self) -> None:
        h, w, c = self.pixels.shape
        if c != RGB or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are (h, w, 3) uint8, got {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != (h, w):
            raise ValueError(f"alpha is {self.alpha.shape}, pixels are {h}x{w}")

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return Size(height_px=int(self.pixels.shape[0]), width_px=int(self.pixels.shape[1]))
