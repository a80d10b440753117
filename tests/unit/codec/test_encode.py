import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from calotype.codec.decode import decode
from calotype.codec.encode import EncodeOptions, encode, unrepresentable
from calotype.codec.metadata import Metadata, upright_exif
from calotype.domain.image import Image
from calotype.domain.request import FORMATS, ImageFormat
from calotype.errors import InvalidParameterError

LIMIT = 1_000_000
ORIENTATION = 0x0112
OPTIONS = EncodeOptions()
RNG = np.random.default_rng(9)
NOISE: NDArray[np.uint8] = RNG.integers(0, 256, (45, 67, 3), dtype=np.uint8)
ALPHA: NDArray[np.uint8] = RNG.choice(np.array([0, 1, 77, 254, 255], dtype=np.uint8), (45, 67))


def smooth() -> Image:
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, (x + y) + 60], axis=-1).astype(np.uint8)
    return Image(pixels)


def opened(body: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(body))


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["rgb", "rgba"])
@pytest.mark.parametrize("effort", [0, 1, 3, 9])
def test_png_is_exact(alpha: NDArray[np.uint8] | None, effort: int) -> None:
    body = encode(Image(NOISE, alpha), "png", EncodeOptions(png_effort=effort))
    read = opened(body)
    assert (read.format, read.mode) == ("PNG", "RGB" if alpha is None else "RGBA")
    pixels = np.asarray(read)
    assert np.array_equal(pixels[..., :3], NOISE)
    assert alpha is None or np.array_equal(pixels[..., 3], alpha)


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["rgb", "rgba"])
def test_webp_at_100_is_exact(alpha: NDArray[np.uint8] | None) -> None:
    body = encode(Image(NOISE, alpha), "webp", EncodeOptions(webp_quality=100))
    pixels = np.asarray(opened(body))
    assert np.array_equal(pixels[..., :3], NOISE)
    assert alpha is None or np.array_equal(pixels[..., 3], alpha)


def test_lossy_webp_keeps_alpha_exactly() -> None:
    read = opened(encode(Image(NOISE, ALPHA), "webp", OPTIONS))
    assert read.mode == "RGBA"
    assert np.array_equal(np.asarray(read)[..., 3], ALPHA)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_formats_stay_close(format: ImageFormat) -> None:
    image = smooth()
    pixels = np.asarray(opened(encode(image, format, OPTIONS)).convert("RGB")).astype(int)
    assert np.abs(pixels - image.pixels).mean() < 3


def test_quality_reaches_the_encoder() -> None:
    image = Image(NOISE)
    lossy: ImageFormat
    rough = EncodeOptions(jpeg_quality=20, webp_quality=20)
    for lossy in ("jpeg", "webp"):
        assert len(encode(image, lossy, rough)) < len(encode(image, lossy, OPTIONS)) / 2


def test_jpeg_lies_on_white() -> None:
    pixels = np.full((16, 16, 3), (255, 0, 0), dtype=np.uint8)
    alpha = np.zeros((16, 16), dtype=np.uint8)
    alpha[:, 8:] = 128
    read = np.asarray(opened(encode(Image(pixels, alpha), "jpeg", OPTIONS))).astype(int)
    assert read[8, 3].min() >= 250
    assert np.abs(read[8, 12] - (255, 127, 127)).max() <= 5


@pytest.mark.parametrize("format", FORMATS)
def test_any_memory_layout_is_written_right(format: ImageFormat) -> None:
    strided = np.asfortranarray(NOISE)[:, ::-1]
    expected = encode(Image(np.ascontiguousarray(strided)), format, OPTIONS)
    assert encode(Image(strided), format, OPTIONS) == expected


@pytest.mark.parametrize(("format", "limit"), [("webp", 16383), ("jpeg", 65500)])
def test_a_side_the_format_cannot_hold(format: ImageFormat, limit: int) -> None:
    assert encode(Image(np.zeros((1, limit, 3), dtype=np.uint8)), format, OPTIONS)
    long = Image(np.zeros((limit + 1, 1, 3), dtype=np.uint8))
    with pytest.raises(InvalidParameterError) as caught:
        encode(long, format, OPTIONS)
    for word in (format, str(limit), f"1x{limit + 1}", "png"):
        assert word in str(caught.value)
    assert opened(encode(long, "png", OPTIONS)).size == (1, limit + 1)


def test_what_jpeg_cannot_hold_is_said() -> None:
    opaque = Image(NOISE, np.full(NOISE.shape[:2], 255, dtype=np.uint8))
    assert unrepresentable(Image(NOISE, ALPHA), "jpeg") == (
        "jpeg has no transparency: the picture is laid on white"
    )
    assert unrepresentable(Image(NOISE, ALPHA), "png") is None
    assert unrepresentable(Image(NOISE, ALPHA), "webp") is None
    assert unrepresentable(opaque, "jpeg") is None
    assert unrepresentable(Image(NOISE), "jpeg") is None


def camera_file() -> bytes:
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "Talbot"
    exif.get_ifd(0x8769)[0x9003] = "1841:02:08 12:00:00"
    buffer = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    Pillow.fromarray(NOISE).save(buffer, "JPEG", exif=exif, xmp=xmp, quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_is_stripped_unless_given(format: ImageFormat) -> None:
    decoded = decode(camera_file(), LIMIT, keep_metadata=True)
    bare = encode(decoded.image, format, OPTIONS)
    assert not opened(bare).getexif()
    for trace in (b"Talbot", b"xmpmeta", b"ICC_PROFILE", b"iCCP", b"ICCP"):
        assert trace not in bare
    kept = opened(encode(decoded.image, format, OPTIONS, decoded.metadata))
    exif = kept.getexif()
    assert exif[ORIENTATION] == 1
    assert exif[0x010F] == "Talbot"
    assert exif.get_ifd(0x8769)[0x9003] == "1841:02:08 12:00:00"
    assert "xmpmeta" in str(kept.info.get("xmp") or kept.info.get("XML:com.adobe.xmp"))
    assert kept.size == (45, 67)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "metadata",
    [Metadata(exif=b"rubbish"), Metadata(xmp=b"\xff" * 200_000), Metadata(iptc=b"\0" * 100_000)],
    ids=["exif", "xmp", "iptc"],
)
def test_metadata_that_cannot_be_written_does_not_cost_the_answer(
    format: ImageFormat, metadata: Metadata
) -> None:
    body = encode(Image(NOISE), format, OPTIONS, metadata)
    assert opened(body).size == (67, 45)
    assert decode(body, LIMIT).image.pixels.shape == NOISE.shape


def test_upright_exif_in_both_byte_orders_and_when_damaged() -> None:
    for mark in (b"", b"Exif\0\0"):
        for order, name in (("<", b"II"), (">", b"MM")):
            head = name + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", 1)
            turned = mark + head + struct.pack(f"{order}HHIHH", ORIENTATION, 3, 1, 6, 0)
            upright = mark + head + struct.pack(f"{order}HHIHH", ORIENTATION, 3, 1, 1, 0)
            assert upright_exif(turned + bytes(4)) == upright + bytes(4)
            assert upright_exif(turned[:-5]) is None
    assert upright_exif(b"") is None
    assert upright_exif(b"Exif\0\0??") is None


@pytest.mark.parametrize(
    "bad", [{"jpeg_quality": 0}, {"webp_quality": 101}, {"png_effort": 10}, {"png_effort": -1}]
)
def test_options_out_of_range(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be in"):
        EncodeOptions(**bad)
