"""The size that the first bytes of a file tell."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calotype.codec.glance import glance
from calotype.domain.image import Size

SIZES = [(1, 1), (640, 480), (3, 5000), (16000, 2)]


def body(size: tuple[int, int], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (90, 20, 50)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "icc_profile": b"x" * 60_000, "comment": b"\xff\xc0" * 9}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"icc_profile": b"x" * 100}),
    ],
)
def test_it_is_that_of_the_picture(
    size: tuple[int, int], kind: str, options: dict[str, object]
) -> None:
    file = body(size, kind, **options)
    assert glance(file) == Size(height_px=size[1], width_px=size[0])


def test_what_is_not_told() -> None:
    assert glance(b"") is None
    assert glance(body((9, 9), "GIF")) is None
    assert glance(body((9, 9), "TIFF")) is None
    for kind in ("JPEG", "PNG", "WEBP"):
        assert glance(body((9, 9), kind)[:20]) is None
    assert glance(b"\xff\xd8\xff\xda" + bytes(100)) is None
    assert glance(b"\xff\xd8" + bytes(100)) is None
    assert glance(b"RIFF    WEBPVP8Q" + bytes(100)) is None


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBPVP8X"]), st.binary())
def test_nothing_breaks_it(head: bytes, rest: bytes) -> None:
    glance(head + rest)
