"""Run a picture through a network of one fixed input shape, tile by tile, without seams.

Neighbouring tiles share ``overlap`` pixels. Of these the outer parts, which the network computed
without their full surroundings, are dropped, and in the middle ``blend`` pixels one tile fades into
the next. So memory is the output picture and one row of tiles, whatever the network needs inside.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from calotype.domain.hooks import Hooks
from calotype.domain.image import Pixels, Size
from calotype.errors import PayloadTooLargeError

RunTile = Callable[[Pixels], Pixels]
"""(th, tw, 3) uint8 -> (th * s, tw * s, 3) uint8. The result may be reused by the next call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How a picture is cut.

    Attributes:
        tile_px: rows and columns of a tile.
        overlap_px: pixels that neighbouring tiles share at least; at most a step of alignment
            less than the tile.
        blend_px: of these, the middle ones over which one fades into the other; 0..overlap_px.
        align_px: tiles start at multiples of this; ``tile_px`` is one too.
    """

    tile_px: int
    overlap_px: int = 0
    blend_px: int = 0
    align_px: int = 1

    def __post_init__(self) -> None:
        possible = 0 <= self.blend_px <= self.overlap_px <= self.tile_px - self.align_px
        if not possible or self.tile_px % self.align_px:
            raise ValueError(f"not a possible grid: {self}")


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis: where it starts, and which of its pixels count."""

    start: int
    """First pixel of the tile in the picture."""
    keep: int
    """First pixel of the picture that this tile has a say in."""
    full: int
    """First pixel of the picture that is this tile's alone: before it, the last tile fades out."""
    stop: int
    """One past the last pixel of the picture that this tile has a say in."""


def spans(length: int, grid: Grid) -> list[Span]:
    """Cut one axis.

    Args:
        length: pixels of the axis, a multiple of ``align_px`` if there is more than one tile.
        grid: how to cut.

    Returns:
        At least one span; ``keep`` of each is at most ``stop`` of the one before, and together
        they cover the axis.
    """
    last = max(0, length - grid.tile_px)
    step = (grid.tile_px - grid.overlap_px) // grid.align_px * grid.align_px
    starts = [*range(0, last, step), last]
    # The last tile ends with the picture, so it may share more than the others: fade in the middle.
    middles = [(a + grid.tile_px + b) // 2 for a, b in pairwise(starts)]
    fades = [(m - grid.blend_px // 2, m - grid.blend_px // 2 + grid.blend_px) for m in middles]
    keeps = [0, *(low for low, _ in fades)]
    fulls = [0, *(high for _, high in fades)]
    stops = [*(high for _, high in fades), length]
    return [Span(*row) for row in zip(starts, keeps, fulls, stops, strict=True)]


def check_result(size: Size, limit: int | None) -> None:
    """Refuse a result that is too large.

    Args:
        size: of the result.
        limit: most pixels; None: any number.

    Raises:
        PayloadTooLargeError: it has more.
    """
    if limit is not None and size.pixels > limit:
        raise PayloadTooLargeError(
            f"the result would be {size}, {size.pixels} pixels; at most {limit} are allowed"
        )


def count_tiles(height_px: int, width_px: int, grid: Grid) -> int:
    """Return how many tiles a picture of that size takes."""
    h, w = _rounded_up(height_px, grid), _rounded_up(width_px, grid)
    return len(spans(h, grid)) * len(spans(w, grid))


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
    for top, fade, strip in strips(pixels, grid, scale, run_tile, hooks):
        rows = output[top : top + len(strip)]
        strip = strip[: len(rows), : w * scale]  # noqa: PLW2901  what padding added is cut off
        _fade(rows, strip, min(fade, len(rows)), axis=0)
    return output


def strips(
    pixels: Pixels, grid: Grid, scale: int, run_tile: RunTile, hooks: Hooks
) -> Iterator[tuple[int, int, Pixels]]:
    """Yield rows of tiles, joined sideways, from top to bottom.

    Yields:
        (first output row, rows over which the strip before fades in, (rows, w, 3) uint8).
    """
    h, w, _ = pixels.shape
    rows, columns = spans(_rounded_up(h, grid), grid), spans(_rounded_up(w, grid), grid)
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
            _fade(target, tile[inside, left:right], (column.full - column.keep) * scale, axis=1)
            done += 1
            hooks.step(done, total)
        yield first, (row.full - row.keep) * scale, strip


def _rounded_up(length: int, grid: Grid) -> int:
    """Return the axis as the network sees it: whole tiles or whole steps of alignment."""
    return max(grid.tile_px, -(-length // grid.align_px) * grid.align_px)


def _cut(pixels: Pixels, top: int, left: int, tile_px: int) -> Pixels:
    """Return one tile; what lies outside the picture mirrors it."""
    part = pixels[top : top + tile_px, left : left + tile_px]
    h, w, _ = part.shape
    if (h, w) == (tile_px, tile_px):
        return np.ascontiguousarray(part)
    return np.pad(part, ((0, tile_px - h), (0, tile_px - w), (0, 0)), mode="reflect")


def _fade(old: Pixels, new: Pixels, length: int, axis: int) -> None:
    """Write ``new`` over ``old``, fading from old to new over the first ``length`` pixels."""
    if length:
        ramp = (np.arange(length, dtype=np.float32) + 0.5) / length
        ramp = ramp.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        part = (slice(None),) * axis + (slice(0, length),)
        before = old[part].astype(np.float32)
        mixed = before + (new[part] - before) * ramp
        np.rint(mixed, out=mixed)
        old[part] = mixed.astype(np.uint8)
    rest = (slice(None),) * axis + (slice(length, None),)
    old[rest] = new[rest]
