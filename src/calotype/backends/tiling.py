"""Run a picture through a network of one fixed input shape, tile by tile, without seams.

Memory is the output picture and one row of tiles, whatever the network needs inside.
"""

from collections.abc import Callable, Iterator

import numpy as np

from calotype.domain.hooks import Hooks
from calotype.domain.image import Pixels
from calotype.domain.tiling import Grid, fade, rounded_up, spans

RunTile = Callable[[Pixels], Pixels]
"""(th, tw, 3) uint8 -> (th * s, tw * s, 3) uint8. The result may be reused by the next call."""


def run_tiled(pixels: Pixels, grid: Grid, scale: int, run_tile: RunTile, hooks: Hooks) -> Pixels:
    """Run the whole picture.

    Args:
        pixels: (h, w, 3) uint8; a side shorter than a tile is continued by reflection.
        grid: how to cut.
        scale: size of a tile's result / size of the tile.
        run_tile: the network.
        hooks: told of progress before the first and after each tile; may stop the run there.

    Returns:
        (h * scale, w * scale, 3) uint8.

    Raises:
        JobCancelledError: the hooks were told to stop.
    """
    h, w, c = pixels.shape
    output = np.empty((h * scale, w * scale, c), np.uint8)
    for top, length, strip in strips(pixels, grid, scale, run_tile, hooks):
        rows = output[top : top + len(strip)]
        strip = strip[: len(rows), : w * scale]  # noqa: PLW2901  what padding added is cut off
        fade(rows, strip, min(length, len(rows)), axis=0)
    return output


def strips(
    pixels: Pixels, grid: Grid, scale: int, run_tile: RunTile, hooks: Hooks
) -> Iterator[tuple[int, int, Pixels]]:
    """Yield rows of tiles, joined sideways, from top to bottom.

    Yields:
        (first output row, rows over which the strip before fades in, (rows, w, 3) uint8).
    """
    h, w, _ = pixels.shape
    rows, columns = spans(rounded_up(h, grid), grid), spans(rounded_up(w, grid), grid)
    total, done = len(rows) * len(columns), 0
    hooks.step(0, total)
    for row in rows:
        first, stop = row.keep * scale, row.stop * scale
        strip = np.empty((stop - first, columns[-1].stop * scale, 3), np.uint8)
        inside = slice(first - row.start * scale, stop - row.start * scale)
        for column in columns:
            tile = run_tile(_cut(pixels, row.start, column.start, grid.tile_px))
            left, right = (column.keep - column.start) * scale, (column.stop - column.start) * scale
            target = strip[:, column.keep * scale : column.stop * scale]
            fade(target, tile[inside, left:right], (column.full - column.keep) * scale, axis=1)
            done += 1
            hooks.step(done, total)
        yield first, (row.full - row.keep) * scale, strip


def _cut(pixels: Pixels, top: int, left: int, tile_px: int) -> Pixels:
    """Return one tile; what lies outside the picture mirrors it."""
    part = pixels[top : top + tile_px, left : left + tile_px]
    h, w, _ = part.shape
    if (h, w) == (tile_px, tile_px):
        return np.ascontiguousarray(part)
    return np.pad(part, ((0, tile_px - h), (0, tile_px - w), (0, 0)), mode="reflect")
