"""Chroma is enlarged along the edges of lightness."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calotype.backends.guided import Enlarger, averaging, between
from calotype.backends.window import box_mean


def noise(h: int, w: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((h, w), dtype=np.float32)


@given(st.integers(1, 60), st.integers(1, 60))
def test_constants_stay_and_sizes_are_right(small: int, large: int) -> None:
    for matrix in (between(small, large), averaging(small, large)):
        assert matrix.shape == (large, small)
        assert matrix.dtype == np.float32
        assert np.allclose(matrix.sum(1), 1, atol=1e-5)
        assert matrix.min() >= 0


def test_averaging_is_the_mean_of_blocks() -> None:
    plane = noise(12, 20)
    found = averaging(12, 3) @ plane @ averaging(20, 5).T
    assert np.allclose(found, plane.reshape(3, 4, 5, 4).mean((1, 3)), atol=1e-6)


def test_a_line_between_two_values_is_straight() -> None:
    assert np.allclose(between(2, 4) @ np.array([0, 1], np.float32), [0, 0.25, 0.75, 1])


def test_the_window_s_mean_is_of_what_lies_in_the_picture() -> None:
    plane = noise(7, 9)
    for radius in (1, 3, 20):
        found = box_mean(plane, radius)
        for y, x in ((0, 0), (3, 4), (6, 8)):
            part = plane[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            assert abs(found[y, x] - part.mean()) < 1e-5


def test_colour_ends_where_lightness_does() -> None:
    """A step in lightness that carries a step in chroma is as sharp at eight times the size."""
    small = np.full((16, 32), 20, np.float32)
    small[:, 16:] = 80
    chroma = np.stack([np.where(small > 50, 40, -10), np.zeros_like(small)]).astype(np.float32)
    enlarger = Enlarger.fit(small, chroma, radius=3, epsilon=1.0)
    large = np.full((128, 256), 20, np.float32)
    large[:, 128:] = 80
    a, b = enlarger.chroma(large, between(16, 128), between(32, 256))
    assert np.allclose(a[:, :128], -10, atol=5)
    assert np.allclose(a[:, 128:], 40, atol=5)
    assert (a[:, 128] - a[:, 127]).min() > 40
    assert np.allclose(b, 0, atol=1e-3)


def test_noise_in_lightness_is_not_noise_in_colour() -> None:
    small = 50 + noise(24, 24)
    chroma = np.stack([noise(24, 24, 1) * 0 + 12, noise(24, 24, 2) * 0 - 7]).astype(np.float32)
    enlarger = Enlarger.fit(small, chroma, radius=3, epsilon=20.0)
    a, b = enlarger.chroma(50 + 10 * noise(48, 48, 3), between(24, 48), between(24, 48))
    assert np.abs(a - 12).max() < 0.1
    assert np.abs(b + 7).max() < 0.1
