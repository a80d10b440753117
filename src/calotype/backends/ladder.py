"""Which tile a picture is run with: the model's, or another one where that is better."""

from collections.abc import Callable, Sequence

from calotype.domain.image import Size
from calotype.domain.tiling import LARGEST_TILE, Grid, count_tiles

MIN_TILE_PX = 64
SMALLER_TILES = (0.5, 0.75)
LARGER_TILES = (1.125, LARGEST_TILE)
"""Shares of the tile that are compiled too, when the first picture comes that they are better for.

A smaller one must hold the whole picture, for the edges of small tiles show. With a larger one the
last tiles of the rows and columns may reach less far beyond what is left.
"""
LEAST_GAIN = 0.1
"""Share of the computed pixels that another tile must save: it must be compiled, and kept."""
LARGE_PIXELS = 4_000_000
"""Larger pictures have so many tiles that the last ones don't matter."""


class Ladder:
    """The tiles of one network.

    Args:
        tile_px: side of the usual one, which is always possible.
        grid: how a picture is cut into tiles of a side.
        multiple_px: of which all are multiples.
        least_px: side of the smallest.
    """

    def __init__(
        self,
        tile_px: int,
        grid: Callable[[int], Grid],
        multiple_px: int = 1,
        least_px: int = MIN_TILE_PX,
    ) -> None:
        self.tile_px, self._grid = tile_px, grid
        self._multiple_px, self._least_px = multiple_px, least_px
        self._refused: set[int] = set()
        self.shrinks = sum(self.halved(n) < self.halved(n - 1) for n in (1, 2, 3))
        """How often the tile can be halved."""

    def choose(self, size: Size, shrink: int, *, keep: bool = False) -> int:
        """Return the tile for a picture.

        Args:
            size: of the picture.
            shrink: how often the tile is to be halved, for want of memory.
            keep: take none that is larger than the usual one.
        """
        best = self._best(size, () if keep or shrink else LARGER_TILES)
        return min(best, self.halved(shrink)) if shrink else best

    def halved(self, times: int) -> int:
        """Return the tile halved that often, or as often as is possible."""
        tiles = (self.tile_px >> n for n in range(times, 0, -1))
        return next((tile for tile in tiles if self._is_possible(tile)), self.tile_px)

    def refuse(self, tile_px: int) -> None:
        """Never return a tile again: the network can't take it."""
        self._refused.add(tile_px)

    def _best(self, size: Size, larger: Sequence[float]) -> int:
        """Return the tile with which the fewest pixels are computed."""
        if size.pixels > LARGE_PIXELS:
            return self.tile_px
        side = max(size.height_px, size.width_px)
        tiles = [t for share in SMALLER_TILES if side <= (t := int(self.tile_px * share))]
        tiles += [int(self.tile_px * share) for share in larger]
        costs = {tile: self._cost(size, tile) for tile in tiles if self._is_possible(tile)}
        best = min(costs, key=lambda tile: costs[tile], default=self.tile_px)
        worth = self._cost(size, self.tile_px) * (1 - LEAST_GAIN)
        return best if costs.get(best, worth) < worth else self.tile_px

    def _cost(self, size: Size, tile_px: int) -> int:
        """Return how many pixels the network is given."""
        return count_tiles(size.height_px, size.width_px, self._grid(tile_px)) * tile_px**2

    def _is_possible(self, tile_px: int) -> bool:
        fits = tile_px >= self._least_px and tile_px % self._multiple_px == 0
        return fits and tile_px not in self._refused
