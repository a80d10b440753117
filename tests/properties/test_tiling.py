"""An identity network gives the picture back, whatever the sizes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.backends.tiling import run_tiled
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Pixels
from calotype.domain.tiling import Grid, Joiner, count_tiles, rounded_up, spans


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    align = draw(st.sampled_from([1, 2, 4]))
    tile = align * draw(st.integers(2, 12))
    overlap = draw(st.integers(0, tile - align))
    return Grid(
        tile_px=tile,
        overlap_px=overlap,
        blend_px=draw(st.integers(0, overlap)),
        align_px=align,
    )


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


def repeated(pixels: Pixels, scale: int) -> Pixels:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), grids(), st.integers(1, 3))
def test_identity_network_gives_the_picture_back(
    height: int, width: int, grid: Grid, scale: int
) -> None:
    pixels = picture(height, width)
    seen: list[tuple[int, int]] = []

    def run_tile(tile: Pixels) -> Pixels:
        assert tile.shape == (grid.tile_px, grid.tile_px, 3)
        return repeated(tile, scale)

    hooks = Hooks(lambda done, total: seen.append((done, total)))
    output = run_tiled(pixels, grid, scale, run_tile, hooks)
    assert np.array_equal(output, repeated(pixels, scale))
    total = count_tiles(height, width, grid)
    assert seen == [(done, total) for done in range(total + 1)]


@given(st.integers(1, 300), grids())
def test_spans_cover_the_axis_and_keep_to_their_tiles(steps: int, grid: Grid) -> None:
    length = max(grid.tile_px, steps * grid.align_px)
    found = spans(length, grid)
    assert found[0].keep == 0
    assert found[-1].stop == length
    for span in found:
        assert span.start % grid.align_px == 0
        assert span.start <= span.keep <= span.full
        assert span.full <= span.stop <= span.start + grid.tile_px
    for before, after in pairwise(found):
        assert after.full == before.stop
        assert before.start + grid.tile_px - after.start >= grid.overlap_px


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (6, 800), (129, 128), (300, 257)])
def test_odd_sizes(height: int, width: int) -> None:
    pixels = picture(height, width)
    grid = Grid(tile_px=128, overlap_px=32, blend_px=16)
    output = run_tiled(pixels, grid, 1, lambda tile: tile, Hooks())
    assert np.array_equal(output, pixels)


def test_a_ramp_joins_two_tiles_of_different_brightness() -> None:
    """Each tile gets another level: what is between must rise evenly, without a step."""
    levels = iter((100, 200))
    grid = Grid(tile_px=64, overlap_px=32, blend_px=32)
    output = run_tiled(
        picture(64, 96), grid, 1, lambda tile: np.full_like(tile, next(levels)), Hooks()
    )
    row = output[0, :, 0].astype(int)
    assert row[0] == 100
    assert row[-1] == 200
    assert np.diff(row).min() >= 0
    assert np.diff(row).max() <= 4


def test_cancel_stops_before_the_next_tile() -> None:
    runs: list[int] = []
    hooks = Hooks()

    def run_tile(tile: Pixels) -> Pixels:
        runs.append(1)
        if len(runs) == 3:
            hooks.cancel()
        return tile

    grid = Grid(tile_px=16, overlap_px=4, blend_px=2)
    with pytest.raises(JobCancelledError):
        run_tiled(picture(100, 100), grid, 1, run_tile, hooks)
    assert len(runs) == 3


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 60), grids(), st.integers(1, 3))
def test_strips_one_by_one_make_the_picture_that_all_make_together(
    height: int, width: int, grid: Grid, scale: int
) -> None:
    """Each tile gets other levels at each of its places, so that every seam shows."""
    pixels = picture(height, width)
    side = grid.tile_px * scale
    uneven = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)

    def run_tile(tile: Pixels) -> Pixels:
        return repeated(tile, scale) ^ uneven

    whole = run_tiled(pixels, grid, scale, run_tile, Hooks())
    rows = spans(rounded_up(height, grid), grid)
    joiner, parts = Joiner(rows, height, scale), []
    for row in rows:
        part = pixels[row.start : row.start + grid.tile_px]
        parts.append(joiner.add(run_tiled(part, grid, scale, run_tile, Hooks())))
    assert np.array_equal(np.concatenate(parts), whole)
