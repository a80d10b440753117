"""What colours a code stands for, by a linear map that is found by example."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from calotype.domain.image import Pixels

Codes = NDArray[np.float32]

CELLS = 16
"""Per side of the chart: values of its code. Four times as many fit hardly better."""
PATCHES = (4, 8, 32, 64)
"""Per side of the chart: larger ones than cells, whose colours codes keep, and smaller ones."""


@dataclass(frozen=True, slots=True)
class Palette:
    """A linear map from codes to colours."""

    weights: NDArray[np.float64]
    """(c + 1, 3): of each channel, and what is added."""

    @classmethod
    def fitted(cls, code: Codes, colours: NDArray[np.float64]) -> "Palette":
        """Return the map with the least squares between its colours and the right ones.

        Args:
            code: (c, h, w) float.
            colours: (h, w, 3), 0..255, of the same places.

        Raises:
            ValueError: there is none.
        """
        rows = _rows(code)
        if len(rows) <= rows.shape[1]:
            raise ValueError(f"{len(rows)} places for {rows.shape[1]} numbers")
        weights, *_ = np.linalg.lstsq(rows, colours.reshape(-1, 3), rcond=None)
        if not np.isfinite(weights).all():
            raise ValueError("the fit is not finite")
        return cls(np.asarray(weights, np.float64))

    def drawn(self, code: Codes) -> PIL.Image.Image:
        """Show a code.

        Args:
            code: (c, h, w) float.

        Raises:
            ValueError: it has another number of channels, or values that are no numbers.
        """
        colours = (_rows(code) @ self.weights).reshape(*code.shape[1:], 3)
        if not np.isfinite(colours).all():
            raise ValueError("the code is not finite")
        return PIL.Image.fromarray(np.rint(np.clip(colours, 0, 255)).astype(np.uint8))


def chart(side_px: int) -> Pixels:
    """Make a picture of all colours, in smooth patches of several sizes; always the same.

    Returns:
        (side_px, side_px, 3) uint8.
    """
    rng = np.random.default_rng(0)
    layers = []
    for number in PATCHES:
        patches = rng.integers(0, 256, (number, number, 3), dtype=np.uint8)
        picture = PIL.Image.fromarray(patches)
        layers.append(np.asarray(picture.resize((side_px, side_px), PIL.Image.Resampling.BICUBIC)))
    mean = np.mean(layers, axis=0)
    spread = (mean - 127.5) * np.sqrt(len(layers))  # averages lie closer together
    return np.asarray(np.rint(np.clip(127.5 + spread, 0, 255)), np.uint8)


def cell_means(pixels: Pixels, h: int, w: int) -> NDArray[np.float64]:
    """Return the mean colours of a picture's cells, (h, w, 3).

    Raises:
        ValueError: the picture can't be divided into so many.
    """
    height, width = pixels.shape[:2]
    if height % h or width % w:
        raise ValueError(f"{width}x{height} pixels are no {w}x{h} cells")
    cells = pixels.reshape(h, height // h, w, width // w, 3)
    means: NDArray[np.float64] = cells.mean(axis=(1, 3), dtype=np.float64)
    return means


def _rows(code: Codes) -> NDArray[np.float64]:
    """Return (c, h, w) as (h w, c + 1), the last column being 1."""
    rows = code.reshape(len(code), -1).T.astype(np.float64)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
