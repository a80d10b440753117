import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from calotype.codec.decode import Decoded, Header, decode, probe, sniff
from calotype.errors import BadImageError, PayloadTooLargeError, RequestError

LIMIT = 1_000_000
UNREADABLE = "^cannot identify image file"
MAGIC = (
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"RIFF\x20\0\0\0WEBP",
    b"\0\0\0\x1cftypavif",
)


def written(picture: Pillow.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def noise(side_px: int) -> Pillow.Image:
    rng = np.random.default_rng(3)
    return Pillow.fromarray(rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))


def png_claiming(width_px: int, height_px: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return (
        MAGIC[1] + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


WAYS: list[tuple[str, dict[str, object]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("AVIF", {}),
]
WHOLE = [written(noise(64), kind, **options) for kind, options in WAYS]


@pytest.mark.parametrize("whole", WHOLE)
def test_a_cut_off_file_is_an_error_not_half_a_picture(whole: bytes) -> None:
    for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        with pytest.raises(BadImageError, match=UNREADABLE):
            decode(whole[: int(len(whole) * share)], LIMIT)


@pytest.mark.parametrize("whole", WHOLE)
def test_bytes_after_the_end_do_no_harm(whole: bytes) -> None:
    image = decode(whole, LIMIT).image
    assert np.array_equal(decode(whole + b"\0trailing" * 50, LIMIT).image.pixels, image.pixels)


@pytest.mark.parametrize(
    "upload",
    [
        b"",
        b"\0",
        b"plain text",
        b'{"inputs": "aGk="}',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF",
        b"P6 1 1 255\nabc",
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n\0\0\0\0",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        written(noise(8), "BMP"),
        written(noise(8), "JPEG2000"),
        written(noise(8), "ICO"),
        bytes.fromhex("08f2a6b6") + bytes(128),  # libvips' own format
        *MAGIC,
        *(magic + bytes(200) for magic in MAGIC),
    ],
)
def test_anything_else_is_not_identified(upload: bytes) -> None:
    with pytest.raises(BadImageError, match=UNREADABLE):
        probe(upload, LIMIT)
    with pytest.raises(BadImageError, match=UNREADABLE):
        decode(upload, LIMIT)


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    bomb = png_claiming(60000, 60000)
    for read in (probe, decode):
        with pytest.raises(PayloadTooLargeError) as caught:
            read(bomb, 50_000_000)
        assert str(caught.value) == (
            "image has 3600000000 pixels (60000x60000), the limit is 50000000"
        )


def test_the_limit_itself_is_let_through() -> None:
    upload = written(noise(64), "PNG")
    assert probe(upload, 64 * 64).size.pixels == 64 * 64
    with pytest.raises(PayloadTooLargeError):
        probe(upload, 64 * 64 - 1)


@pytest.mark.parametrize("samples", ["int", "uint", "char"])
def test_samples_no_camera_makes_are_refused(samples: str) -> None:
    upload = pyvips.Image.black(4, 4).cast(samples).tiffsave_buffer()
    with pytest.raises(BadImageError, match="samples are not supported"):
        decode(upload, LIMIT)


def test_a_multispectral_tiff_is_refused() -> None:
    upload = pyvips.Image.black(4, 4, bands=40).tiffsave_buffer()
    with pytest.raises(BadImageError, match="40 channels"):
        probe(upload, LIMIT)


def survives(upload: bytes) -> None:
    try:
        header = probe(upload, LIMIT)
        decoded = decode(upload, LIMIT, keep_metadata=True)
    except RequestError:
        return
    assert isinstance(header, Header)
    assert isinstance(decoded, Decoded)
    assert decoded.image.size == header.size


@given(st.binary(max_size=400))
def test_any_bytes_are_a_picture_or_the_callers_error(upload: bytes) -> None:
    sniff(upload)
    survives(upload)


@settings(max_examples=200)
@given(st.sampled_from(MAGIC), st.binary(max_size=400))
def test_any_bytes_after_a_magic_number(magic: bytes, rest: bytes) -> None:
    survives(magic + rest)


DAMAGED = [written(noise(16), kind, **options) for kind, options in WAYS] + [
    written(noise(16).convert(mode), kind)
    for mode, kind in (("P", "PNG"), ("CMYK", "JPEG"), ("RGBA", "WEBP"), ("1", "TIFF"))
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(DAMAGED),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_flipped_bytes(whole: bytes, flips: list[tuple[float, int]]) -> None:
    damaged = bytearray(whole)
    for share, mask in flips:
        damaged[int(share * len(damaged))] ^= mask
    survives(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DAMAGED), st.integers(0, 120), st.binary(min_size=1, max_size=8))
def test_overwritten_headers(whole: bytes, start: int, patch: bytes) -> None:
    survives(whole[:start] + patch + whole[start + len(patch) :])
