"""How pictures are cut into tiles, and how tiles become one picture again.

Neighbouring tiles share ``overlap`` pixels. Of these the outer parts, which a network computed
without their full surroundings, are dropped, and in the middle ``blend`` pixels one tile fades into
the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from calotype.domain.image import Pixels, Size
from calotype.domain.model import AUTO, ModelSpec
from calotype.errors import PayloadTooLargeError

WINDOWED = frozenset({"openvino", "fake"})
"""Backends whose result depends, at each pixel, on the tile around it alone."""

LARGEST_TILE = 1.25
"""Share of the usual tile that a backend may take where that computes less."""

TILE = "tile"
"""Name of the fact by which a backend tells of a strip which tile it cut it into."""

SHRINK = "shrink"
"""Name of the fact by which it tells how often that tile was halved, for want of memory."""


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


def grid_of(spec: ModelSpec, tile_px: int) -> Grid:
    """Return how a model's pictures are cut into tiles of a size.

    Args:
        spec: overlap, blend and alignment, each as far as the tile allows.
        tile_px: rows and columns of the tile that its network takes.
    """
    overlap = min(spec.overlap, tile_px // 2)
    return Grid(
        tile_px=tile_px,
        overlap_px=overlap,
        blend_px=min(spec.blend, overlap),
        align_px=spec.align if tile_px % spec.align == 0 else 1,
    )


def is_windowed(spec: ModelSpec) -> bool:
    """Tell whether a row of tiles can be computed without the rest of the picture."""
    return spec.backend in WINDOWED and spec.tile != AUTO


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
    h, w = rounded_up(height_px, grid), rounded_up(width_px, grid)
    return len(spans(h, grid)) * len(spans(w, grid))


def rounded_up(length: int, grid: Grid) -> int:
    """Return the axis as the network sees it: whole tiles or whole steps of alignment."""
    return max(grid.tile_px, -(-length // grid.align_px) * grid.align_px)


def fade(old: Pixels, new: Pixels, length: int, axis: int) -> None:
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


class Joiner:
    """Joins rows of tiles that come from top to bottom, holding what the next one fades into.

    Args:
        rows: how the picture's height, rounded up, is cut.
        height_px: of the picture.
        scale: size of a tile's result / size of the tile.
    """

    def __init__(self, rows: Sequence[Span], height_px: int, scale: int) -> None:
        self._rows, self._height_px, self._scale = rows, height_px, scale
        self._index = 0
        self._held: Pixels | None = None

    def add(self, strip: Pixels) -> Pixels:
        """Add the next row of tiles.

        Args:
            strip: (rows * s, w * s, 3) uint8, what became of the picture's rows from the span's
                start on, as many as a tile has or as are left.

        Returns:
            (rows, w * s, 3) uint8, what is final now: no later strip has a say in it.
        """
        span, scale, height = self._rows[self._index], self._scale, self._height_px
        self._index += 1
        is_last = self._index == len(self._rows)
        until = height if is_last else min(self._rows[self._index].keep, height)
        stop = min(span.stop, height)
        new = strip[(span.keep - span.start) * scale : (stop - span.start) * scale]
        joined = np.empty_like(new)
        if self._held is not None:
            joined[: len(self._held)] = self._held
        fade(joined, new, min((span.full - span.keep) * scale, len(new)), axis=0)
        final = (until - span.keep) * scale
        self._held = joined[final:].copy()
        return joined[:final]
