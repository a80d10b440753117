import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from calotype.codec.resize import resize, resize_plane
from calotype.domain.image import Image, Size


def texture(height_px: int, width_px: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height_px, 0:width_px]
    waves = [np.sin(x / 9 + y / 13), np.cos(x / 5), np.sin(y / 7) * np.cos(x / 11)]
    return (127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def mean_difference(left: NDArray[np.uint8], right: Pillow.Image) -> float:
    return float(np.abs(left.astype(int) - np.asarray(right).astype(int)).mean())


def test_the_same_size_is_the_same_object() -> None:
    image = Image(texture(20, 30))
    plane = np.zeros((20, 30), dtype=np.uint8)
    assert resize(image, Size(height_px=20, width_px=30)) is image
    assert resize_plane(plane, Size(height_px=20, width_px=30)) is plane


@pytest.mark.parametrize("share", [0.11, 0.3, 0.5, 0.77])
def test_shrinking_is_lanczos(share: float) -> None:
    pixels = texture(300, 400)
    size = Size(height_px=int(300 * share), width_px=int(400 * share))
    expected = Pillow.fromarray(pixels).resize(
        (size.width_px, size.height_px), Pillow.Resampling.LANCZOS
    )
    assert mean_difference(resize(Image(pixels), size).pixels, expected) < 1.5


@pytest.mark.parametrize("scale", [1.5, 2, 3, 4])
def test_enlarged_pixels_keep_their_centres(scale: float) -> None:
    # libvips' own enlarging shifts the picture by half a pixel.
    pixels = texture(60, 80)
    size = Size(height_px=int(60 * scale), width_px=int(80 * scale))
    expected = Pillow.fromarray(pixels).resize(
        (size.width_px, size.height_px), Pillow.Resampling.BICUBIC
    )
    assert mean_difference(resize(Image(pixels), size).pixels, expected) < 0.5


def test_one_axis_may_grow_while_the_other_shrinks() -> None:
    pixels = texture(200, 50)
    expected = Pillow.fromarray(pixels).resize((150, 60), Pillow.Resampling.BICUBIC)
    out = resize(Image(pixels), Size(height_px=60, width_px=150)).pixels
    assert mean_difference(out, expected) < 2


@settings(max_examples=150, deadline=None)
@given(*(st.integers(1, 700) for _ in range(4)), st.booleans())
def test_any_ratio_gives_the_exact_size(
    height_px: int, width_px: int, rows: int, columns: int, with_alpha: bool
) -> None:
    pixels = np.full((height_px, width_px, 3), (10, 128, 255), dtype=np.uint8)
    alpha = np.full((height_px, width_px), 99, dtype=np.uint8) if with_alpha else None
    out = resize(Image(pixels, alpha), Size(height_px=rows, width_px=columns))
    assert out.pixels.shape == (rows, columns, 3)
    assert out.pixels.flags.c_contiguous
    assert np.abs(out.pixels.astype(int) - (10, 128, 255)).max() <= 1
    assert (out.alpha is None) == (not with_alpha)
    if out.alpha is not None:
        assert out.alpha.shape == (rows, columns)
        assert np.abs(out.alpha.astype(int) - 99).max() <= 1


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((1, 1), (3000, 2000)),
        ((3000, 2000), (1, 1)),
        ((1, 16384), (16384, 1)),
        ((6, 8000), (300, 1)),
    ],
)
def test_the_farthest_ratios(shape: tuple[int, int], target: tuple[int, int]) -> None:
    out = resize(
        Image(np.full((*shape, 3), 77, dtype=np.uint8)),
        Size(height_px=target[0], width_px=target[1]),
    )
    assert out.pixels.shape == (*target, 3)
    assert out.pixels.min() == out.pixels.max() == 77


@pytest.mark.parametrize("side_px", [7, 16, 50])
def test_transparent_colours_do_not_bleed(side_px: int) -> None:
    pixels = np.full((32, 32, 3), (0, 255, 0), dtype=np.uint8)
    pixels[:, 16:] = (200, 30, 30)
    alpha = np.zeros((32, 32), dtype=np.uint8)
    alpha[:, 16:] = 255
    out = resize(Image(pixels, alpha), Size(height_px=side_px, width_px=side_px))
    assert out.alpha is not None
    seen = out.pixels[out.alpha > 8].astype(int)
    assert np.abs(seen - (200, 30, 30)).max() <= 3
    assert out.alpha[:, 0].max() == 0
    assert out.alpha[:, -1].min() == 255


def test_opaque_alpha_leaves_the_pixels_as_without_it() -> None:
    pixels = texture(40, 60)
    opaque = Image(pixels, np.full((40, 60), 255, dtype=np.uint8))
    size = Size(height_px=33, width_px=90)
    out = resize(opaque, size)
    assert np.array_equal(out.pixels, resize(Image(pixels), size).pixels)
    assert out.alpha is not None
    assert out.alpha.min() == 255


def test_a_plane_is_resized_like_a_picture() -> None:
    plane = np.ascontiguousarray(texture(60, 80)[..., 0])
    out = resize_plane(plane, Size(height_px=120, width_px=160))
    expected = Pillow.fromarray(plane).resize((160, 120), Pillow.Resampling.BICUBIC)
    assert out.shape == (120, 160)
    assert out.flags.c_contiguous
    assert mean_difference(out, expected) < 0.5
    assert resize_plane(plane, Size(height_px=1, width_px=1)).shape == (1, 1)
