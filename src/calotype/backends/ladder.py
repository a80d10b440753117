"""Which tile a picture is run with: the model's, or a smaller one where that is better."""

from calotype.domain.image import Size

MIN_TILE_PX = 64
SMALLER_TILES = (0.5, 0.75)
"""Shares of the tile that are compiled too, when the first picture that fits comes."""


class Ladder:
    """The tiles of one network.

    Args:
        tile_px: side of the largest, which is always possible.
        multiple_px: of which all are multiples.
        least_px: side of the smallest.
    """

    def __init__(self, tile_px: int, multiple_px: int = 1, least_px: int = MIN_TILE_PX) -> None:
        self.tile_px = tile_px
        self._multiple_px, self._least_px = multiple_px, least_px
        self._refused: set[int] = set()
        self.shrinks = sum(self.halved(n) < self.halved(n - 1) for n in (1, 2, 3))
        """How often the tile can be halved."""

    def choose(self, size: Size, shrink: int) -> int:
        """Return the tile for a picture.

        Args:
            size: of the picture.
            shrink: how often the tile is to be halved, for want of memory.
        """
        return min(self._fitting(size), self.halved(shrink))

    def halved(self, times: int) -> int:
        """Return the tile halved that often, or as often as is possible."""
        tiles = (self.tile_px >> n for n in range(times, 0, -1))
        return next((tile for tile in tiles if self._is_possible(tile)), self.tile_px)

    def refuse(self, tile_px: int) -> None:
        """Never return a tile again: the network can't take it."""
        self._refused.add(tile_px)

    def _fitting(self, size: Size) -> int:
        """Return the smallest tile that holds the picture, for less is computed; else the tile."""
        side = max(size.height_px, size.width_px)
        for share in SMALLER_TILES:
            tile = int(self.tile_px * share)
            if side <= tile and self._is_possible(tile):
                return tile
        return self.tile_px

    def _is_possible(self, tile_px: int) -> bool:
        fits = tile_px >= self._least_px and tile_px % self._multiple_px == 0
        return fits and tile_px not in self._refused
