"""Which tile is taken for a picture."""

import pytest

from calotype.backends.ladder import LARGE_PIXELS, Ladder
from calotype.domain.image import Size
from calotype.domain.tiling import Grid, count_tiles

TILE_PX, OVERLAP_PX = 256, 48


def grid(tile_px: int) -> Grid:
    return Grid(tile_px=tile_px, overlap_px=OVERLAP_PX, blend_px=16)


def ladder(multiple_px: int = 1, least_px: int = 64) -> Ladder:
    return Ladder(TILE_PX, grid, multiple_px, least_px)


def computed(size: Size, tile_px: int) -> int:
    return count_tiles(size.height_px, size.width_px, grid(tile_px)) * tile_px**2


@pytest.mark.parametrize(
    ("width", "height", "tile"),
    [
        (1, 1, 128),
        (128, 128, 128),
        (129, 1, 192),
        (193, 193, 256),
        (256, 256, 256),
        (257, 90, 288),  # one tile in place of two
        (300, 300, 320),  # one in place of four
        (512, 512, 288),  # four in place of nine
        (768, 512, 288),  # six in place of twelve
        (672, 256, 256),  # three, of which nothing is wasted
        (1920, 1080, 256),  # fewer of another would save next to nothing
    ],
)
def test_the_tile_with_which_the_fewest_pixels_are_computed(
    width: int, height: int, tile: int
) -> None:
    assert ladder().choose(Size(height_px=height, width_px=width), 0) == tile


def test_never_more_is_computed_than_with_the_usual_tile() -> None:
    chosen = set()
    for width in range(20, 1500, 37):
        for height in range(20, 1500, 41):
            size = Size(height_px=height, width_px=width)
            tile = ladder().choose(size, 0)
            chosen.add(tile)
            assert computed(size, tile) <= computed(size, TILE_PX)
            assert tile >= TILE_PX or max(width, height) <= tile, "the edges of small tiles show"
    assert chosen == {128, 192, 256, 288, 320}


def test_a_large_picture_takes_the_usual_tile() -> None:
    side = int(LARGE_PIXELS**0.5) + 1
    assert ladder().choose(Size(height_px=side, width_px=side), 0) == TILE_PX


def test_no_larger_tile_where_memory_is_short() -> None:
    for width in range(20, 1500, 37):
        size = Size(height_px=width // 2 + 1, width_px=width)
        assert ladder().choose(size, 0, keep=True) <= TILE_PX
    assert ladder().choose(Size(height_px=100, width_px=100), 0, keep=True) == 128


def test_for_want_of_memory_the_tile_is_halved() -> None:
    size = Size(height_px=512, width_px=512)
    assert [ladder().choose(size, shrink) for shrink in range(4)] == [288, 128, 64, 64]


def test_what_the_network_can_t_take_is_not_chosen() -> None:
    size = Size(height_px=512, width_px=512)
    tiles = ladder()
    tiles.refuse(288)
    assert tiles.choose(size, 0) == 320
    tiles.refuse(320)
    assert tiles.choose(size, 0) == TILE_PX
    assert ladder(multiple_px=64).choose(size, 0) == 320
