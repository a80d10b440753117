"""Large pictures for engines that don't cut them themselves, in the way of Real-ESRGAN's scripts.

Each tile gets a border of its surroundings, which is cut off from what comes out. All tiles have
one shape, also at the edges, as some engines compile themselves for a shape.
"""

import numpy as np

from calotype.domain.image import Pixels
from contest import Contestant, Run

TILE_PX = 500
"""Divides 4000 and 3000, so that nothing is computed in vain."""
BORDER_PX = 10
"""As those scripts have it."""


def cut(pixels: Pixels) -> Pixels:
    """Return (n, th, tw, 3), row by row; what lies outside the picture mirrors it."""
    h, w, _ = pixels.shape
    below, right = (-side % TILE_PX + BORDER_PX for side in (h, w))
    around = np.pad(pixels, ((BORDER_PX, below), (BORDER_PX, right), (0, 0)), mode="reflect")
    side = TILE_PX + 2 * BORDER_PX
    tiles = [
        around[y : y + side, x : x + side]
        for y in range(0, h, TILE_PX)
        for x in range(0, w, TILE_PX)
    ]
    return np.stack(tiles)


def join(tiles: Pixels, pixels: Pixels) -> Pixels:
    """Return the picture that the tiles of a picture became."""
    h, w, _ = pixels.shape
    scale = tiles.shape[1] // (TILE_PX + 2 * BORDER_PX)
    side, edge = TILE_PX * scale, BORDER_PX * scale
    rows, columns = (-(-length // TILE_PX) for length in (h, w))
    inner = tiles[:, edge : edge + side, edge : edge + side]
    whole = inner.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return whole.reshape(rows * side, columns * side, 3)[: h * scale, : w * scale]


class InTiles:
    """A contestant that gets its picture in tiles; cutting and joining are not counted."""

    def __init__(self, run: Contestant) -> None:
        self._run = run
        self._last: tuple[Pixels, Pixels] | None = None

    def __call__(self, pixels: Pixels, keep: bool) -> Run:
        """Run all tiles."""
        if self._last is None or self._last[0] is not pixels:
            self._last = (pixels, cut(pixels))
        found = self._run(self._last[1], keep)
        return found if found.pixels is None else Run(found.seconds, join(found.pixels, pixels))
