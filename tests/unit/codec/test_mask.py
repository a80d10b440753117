"""The geometry of masks, for all sizes and shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calotype.codec.mask import (
    CONTEXT_PX,
    Region,
    cut_out,
    find_region,
    put_back,
    unchanged_share,
    whiten_holes,
)
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.errors import InvalidParameterError

MODEL = ModelSpec(
    id="acme/fill",
    backend="fake",
    revision="1",
    params=(ParamSpec(name="mask_image", type="image", help=""),),
)


def picture(h: int, w: int, seed: int = 0) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


def region_of(original: Image, mask: NDArray[np.uint8], blur: int = 0) -> Region:
    white = Image(np.repeat(mask[:, :, None], 3, axis=2))
    found = find_region(MODEL, original, {"mask_image": white}, {"mask_blur": blur})
    assert found is not None
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Image, NDArray[np.uint8], int]:
    h, w = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    mask = np.zeros((h, w), np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
        height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
        mask[top : top + height, left : left + width] = draw(st.integers(100, 255))
    return picture(h, w, draw(st.integers(0, 9))), mask, draw(st.integers(0, 40))


@given(cases())
def test_what_is_outside_stays_and_what_is_inside_is_the_networks(
    case: tuple[Image, NDArray[np.uint8], int],
) -> None:
    original, mask, blur = case
    before = original.pixels.copy()
    region = region_of(original, mask, blur)
    assert region.is_empty == (not (mask > 127).any())
    seen, white = cut_out(original, region)
    assert seen.pixels.shape == white.pixels.shape
    made = Image(255 - seen.pixels) if not region.is_empty else original
    found = put_back(original, made, region).pixels
    inside = mask > 127
    assert np.array_equal(found[inside], 255 - before[inside])
    outside = ~grown(inside, blur)
    assert np.array_equal(found[outside], before[outside])
    assert np.array_equal(original.pixels, before), "the input was overwritten"


def grown(inside: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Everything in the squares around what is inside, one row and column at a time."""
    wide = inside
    for axis in (0, 1):
        padded = np.pad(wide, [(by, by) if a == axis else (0, 0) for a in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * by + 1, axis=axis)
        wide = np.asarray(windows.any(axis=-1))
    return wide


def test_the_network_sees_no_more_than_it_needs() -> None:
    mask = np.zeros((1000, 1200), np.uint8)
    mask[500:520, 600:640] = 255
    region = region_of(picture(1000, 1200), mask, blur=6)
    margin = CONTEXT_PX + 6
    assert (region.rows, region.columns) == (
        slice(500 - margin, 520 + margin),
        slice(600 - margin, 640 + margin),
    )


def test_a_large_mask_has_more_around_it() -> None:
    mask = np.zeros((2000, 2000), np.uint8)
    mask[800:1000, 800:1200] = 255
    region = region_of(picture(2000, 2000), mask)
    assert (region.rows, region.columns) == (slice(400, 1400), slice(400, 1600))


def test_most_of_a_picture_is_all_of_it() -> None:
    mask = np.zeros((300, 300), np.uint8)
    mask[140:160, 120:160] = 255
    region = region_of(picture(300, 300), mask)
    assert (region.rows, region.columns) == (slice(0, 300), slice(0, 300))


def test_what_the_network_makes_in_another_size_is_resized() -> None:
    original, mask = picture(40, 50), np.zeros((40, 50), np.uint8)
    mask[10:20, 10:20] = 255
    region = region_of(original, mask)
    made = Image(np.full((64, 64, 3), 7, np.uint8))
    found = put_back(original, made, region).pixels
    assert (found[10:20, 10:20] == 7).all()


@pytest.mark.parametrize("blur", [1, 2, 5, 30, 200])
def test_the_edge_fades(blur: int) -> None:
    mask = np.zeros((500, 500), np.uint8)
    mask[240:260, 240:260] = 255
    region = region_of(picture(500, 500), mask, blur)
    row = region.weight[region.weight.shape[0] // 2].astype(int)
    middle = len(row) // 2
    assert (np.diff(row[middle:]) <= 0).all()
    assert row[middle : middle + 10].min() == 255
    assert not row[middle + 10 + blur :].any()
    assert blur == 1 or 0 < row[middle + 10 + blur // 2] < 255


def test_the_share_is_of_pixels_not_of_values() -> None:
    one = picture(2, 2)
    other = Image(one.pixels.copy())
    other.pixels[0, 0, 2] ^= 1
    assert unchanged_share(one, other) == 0.75
    assert unchanged_share(one, picture(2, 3)) is None


def test_holes_become_white() -> None:
    alpha = np.array([[0, 127, 128, 255]], np.uint8)
    mask = whiten_holes(Image(np.zeros((1, 4, 3), np.uint8), alpha), "mask")
    assert mask.pixels[0].tolist() == [[255] * 3, [255] * 3, [0] * 3, [0] * 3]
    assert mask.alpha is None


def test_a_picture_without_alpha_has_no_holes() -> None:
    with pytest.raises(InvalidParameterError, match="mask must have an alpha channel"):
        whiten_holes(Image(np.zeros((1, 4, 3), np.uint8)), "mask")
