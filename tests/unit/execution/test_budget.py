"""What fits into memory: the numbers are chosen by hypothesis."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from calotype.domain.image import Size
from calotype.errors import PayloadTooLargeError
from calotype.execution.budget import (
    MIB,
    Footprint,
    fitting_shrink,
    largest_pixels,
    may_grow,
    picture_bytes,
)

scales = st.one_of(
    st.integers(1, 8).map(float),
    st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)).map(lambda p: (p[0] / p[1]) ** 0.5),
).filter(lambda scale: 0.05 <= scale <= 16)
sides = st.integers(1, 20_000)
sizes = st.builds(Size, height_px=sides, width_px=sides)
rooms = st.integers(0, 64 * 2**30)
footprints = st.builds(
    Footprint,
    resident_bytes=st.integers(0, 4 * 2**30),
    work_bytes=st.integers(0, 16 * 2**30),
    shrinks=st.integers(0, 4),
)


NOTHING = Footprint(resident_bytes=0, work_bytes=0, shrinks=0)
UNEVEN = 0.08873565094161137
"""At which picture_bytes of a million pixels is rounded."""


def need(pixels: int, scale: float, footprint: Footprint, shrink: int) -> int:
    pictures = picture_bytes(pixels, scale)
    return footprint.resident_bytes + footprint.work(shrink) + pictures


def refusal_of(size: Size, scale: float, footprint: Footprint, room: int) -> str:
    try:
        fitting_shrink(size, scale, footprint, room)
    except PayloadTooLargeError as error:
        return str(error)
    return ""


def test_a_picture_counts_once_and_its_result_twice() -> None:
    assert picture_bytes(100, 1) == 900
    assert picture_bytes(100, 4) == 300 + 2 * 100 * 16 * 3
    assert picture_bytes(100, 0.5) == 300 + 2 * 25 * 3


def test_half_the_tile_needs_a_quarter() -> None:
    footprint = Footprint(resident_bytes=7, work_bytes=1600, shrinks=2)
    assert [footprint.work(shrink) for shrink in range(4)] == [1600, 400, 100, 100]


@given(sizes, scales, footprints, rooms)
def test_the_tile_is_halved_as_seldom_as_possible(
    size: Size, scale: float, footprint: Footprint, room: int
) -> None:
    needs = [need(size.pixels, scale, footprint, s) for s in range(footprint.shrinks + 1)]
    fitting = [shrink for shrink, bytes_ in enumerate(needs) if bytes_ <= room]
    if fitting:
        assert fitting_shrink(size, scale, footprint, room) == fitting[0]
    else:
        with pytest.raises(PayloadTooLargeError, match=f"the picture is {size}"):
            fitting_shrink(size, scale, footprint, room)


@given(scales, footprints, rooms)
@example(UNEVEN, NOTHING, 26_074_045)
def test_the_largest_picture_fits_and_none_that_is_a_megapixel_larger(
    scale: float, footprint: Footprint, room: int
) -> None:
    most = largest_pixels(scale, footprint, room)
    least = need(0, scale, footprint, footprint.shrinks)
    if least > room:
        assert most == 0
        return
    assert need(most, scale, footprint, footprint.shrinks) <= room
    assert need(most + 1_000_000, scale, footprint, footprint.shrinks) > room


@given(scales, footprints, rooms)
@example(UNEVEN, NOTHING, 26_074_045)
def test_a_picture_of_the_largest_size_is_taken(
    scale: float, footprint: Footprint, room: int
) -> None:
    most = largest_pixels(scale, footprint, room)
    assume(most)
    fitting_shrink(Size(height_px=1, width_px=most), scale, footprint, room)


@given(sizes, scales, footprints, rooms)
@example(Size(height_px=1, width_px=20_000), 1.0, NOTHING, 90_000)
def test_who_is_refused_is_told_a_size_that_is_taken(
    size: Size, scale: float, footprint: Footprint, room: int
) -> None:
    refusal = refusal_of(size, scale, footprint, room)
    assume(refusal)
    assert f"{room // MIB} MiB" in refusal
    if largest_pixels(scale, footprint, room):
        found = re.search(r"at most (\d+) pixels are possible, such as (\d+)x(\d+)", refusal)
        assert found, refusal
        most, w, h = map(int, found.groups())
        assert w * h <= most
        fitting_shrink(Size(height_px=h, width_px=w), scale, footprint, room)
    else:
        assert "at most 0 pixels" in refusal


@given(sizes, scales, footprints, rooms, st.integers(0, 2**30))
def test_more_room_never_needs_a_smaller_tile(
    size: Size, scale: float, footprint: Footprint, room: int, more: int
) -> None:
    if not refusal_of(size, scale, footprint, room):
        before = fitting_shrink(size, scale, footprint, room)
        assert fitting_shrink(size, scale, footprint, room + more) <= before
    assert largest_pixels(scale, footprint, room) <= largest_pixels(scale, footprint, room + more)


@given(sizes, scales, footprints, rooms)
def test_what_may_grow_fits_with_another_network_and_its_tile(
    size: Size, scale: float, footprint: Footprint, room: int
) -> None:
    grown = footprint.work_bytes * 1.25**2 + 2 * footprint.resident_bytes
    fits = grown + picture_bytes(size.pixels, scale) <= room
    assert may_grow(size, scale, footprint, room) == fits
    if fits:
        assert fitting_shrink(size, scale, footprint, room) == 0
