"""Colours to L*a*b* and back, against the formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calotype.backends.lab import lightness_of, pixels_of
from calotype.domain.image import Pixels

# L*, a*, b* of sRGB colours under D65. Source: worked out with 30 digits from IEC 61966-2-1.
KNOWN = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (119, 119, 119): (50.03, 0.0, 0.0),
}


def plane(value: float) -> NDArray[np.float32]:
    return np.full((1, 1), value, np.float32)


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colours(rgb: tuple[int, int, int]) -> None:
    lightness, a, b = KNOWN[rgb]
    pixel = np.array([[rgb]], np.uint8)
    assert lightness_of(pixel)[0, 0] == pytest.approx(lightness, abs=0.01)
    found = pixels_of(plane(lightness), plane(a), plane(b))
    assert np.abs(found.astype(int) - pixel).max() <= 1


def every_gray() -> Pixels:
    return np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)


def test_gray_without_chroma_comes_back_as_it_was() -> None:
    gray = every_gray()
    none = np.zeros((1, 256), np.float32)
    assert np.array_equal(pixels_of(lightness_of(gray), none, none), gray)


@given(st.floats(-150, 150), st.floats(-150, 150))
def test_lightness_stays_whatever_the_chroma(a: float, b: float) -> None:
    before = lightness_of(every_gray())
    made = pixels_of(before, np.full_like(before, a), np.full_like(before, b))
    assert np.abs(lightness_of(made) - before).max() <= 1


def test_a_colour_that_no_screen_shows_keeps_its_hue() -> None:
    found = pixels_of(plane(50), plane(0), plane(-120))[0, 0].astype(int)
    assert found[2] > found[0] + 50, "still blue"
    mild = pixels_of(plane(50), plane(0), plane(-20))[0, 0].astype(int)
    assert found[2] - found[0] > mild[2] - mild[0]
