import io
import struct

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from calotype.codec.decode import FileFormat, decode, probe, sniff
from calotype.domain.image import Size

LIMIT = 1_000_000
# Two AVIF decoders spread halved chroma differently.
CLOSE = 6
ORIENTATION = 0x0112
FORMATS: tuple[FileFormat, ...] = ("jpeg", "png", "webp", "gif", "tiff", "avif")
RNG = np.random.default_rng(5)
NOISE: NDArray[np.uint8] = RNG.integers(0, 256, (37, 53, 4), dtype=np.uint8)


def written(picture: Pillow.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def smooth(height_px: int = 48, width_px: int = 80) -> Pillow.Image:
    y, x = np.mgrid[0:height_px, 0:width_px]
    pixels = np.stack([x * 255 // width_px, y * 255 // height_px, (x + y) % 128 + 60], axis=-1)
    return Pillow.fromarray(pixels.astype(np.uint8))


def far(left: NDArray[np.uint8], right: NDArray[np.uint8] | Pillow.Image) -> int:
    return int(np.abs(left.astype(int) - np.asarray(right).astype(int)).max())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_opens(format: FileFormat) -> None:
    upload = written(smooth(), format.upper())
    decoded = decode(upload, LIMIT)
    assert sniff(upload) == format
    assert decoded.header == probe(upload, LIMIT)
    assert decoded.header.format == format
    assert decoded.header.size == decoded.image.size == Size(height_px=48, width_px=80)
    assert decoded.header.frames == 1
    assert decoded.header.bits == 8
    assert decoded.metadata is None
    assert decoded.image.pixels.flags.c_contiguous
    reference = Pillow.open(io.BytesIO(upload)).convert("RGB")
    assert far(decoded.image.pixels, reference) <= CLOSE


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_carried_as_it_is(format: str) -> None:
    options: dict[str, object] = {"lossless": True, "exact": True} if format == "WEBP" else {}
    decoded = decode(written(Pillow.fromarray(NOISE), format, **options), LIMIT)
    assert decoded.header.has_alpha
    assert decoded.image.alpha is not None
    assert decoded.image.alpha.flags.c_contiguous
    assert np.array_equal(decoded.image.pixels, NOISE[..., :3])
    assert np.array_equal(decoded.image.alpha, NOISE[..., 3])


def test_opaque_alpha_is_still_alpha() -> None:
    opaque = NOISE.copy()
    opaque[..., 3] = 255
    decoded = decode(written(Pillow.fromarray(opaque), "PNG"), LIMIT)
    assert decoded.header.has_alpha
    assert decoded.image.alpha is not None
    assert decoded.image.alpha.min() == 255


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("1", {}),
        ("LA", {}),
        ("P", {}),
        ("P", {"transparency": 7}),
        ("P", {"transparency": bytes(range(256))}),
        ("P", {"bits": 4}),
        ("L", {"transparency": 3}),
        ("RGB", {"transparency": (1, 2, 3)}),
    ],
)
def test_png_of_any_kind_reads_as_pillow_reads_it(mode: str, options: dict[str, object]) -> None:
    picture = Pillow.fromarray(NOISE).convert("RGB" if mode == "P" else mode)
    if mode == "P":
        picture = picture.quantize(16 if "bits" in options else 256)
    upload = written(picture, "PNG", **options)
    reference = np.asarray(Pillow.open(io.BytesIO(upload)).convert("RGBA"))
    image = decode(upload, LIMIT).image
    assert np.array_equal(image.pixels, reference[..., :3])
    if image.alpha is None:
        assert reference[..., 3].min() == 255
    else:
        assert np.array_equal(image.alpha, reference[..., 3])


def test_16_bit_gray_is_rounded_not_cut() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = decode(written(Pillow.fromarray(ramp), "PNG"), LIMIT)
    assert decoded.header.bits == 16
    assert np.array_equal(decoded.image.pixels[..., 1], ((ramp.astype(int) + 128) // 257))


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_and_alpha(format: str, channels: int) -> None:
    deep = RNG.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    vips = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    upload = getattr(vips, f"{format}save_buffer")()
    expected = (deep.astype(int) + 128) // 257
    image = decode(upload, LIMIT).image
    assert np.array_equal(image.pixels, expected[..., :3])
    assert (image.alpha is None) == (channels == 3)
    if image.alpha is not None:
        assert np.array_equal(image.alpha, expected[..., 3])


def test_float_tiff_is_linear_light() -> None:
    light = np.array([[[0, 0.2158605, 1], [2, -1, np.nan]]], dtype=np.float32)
    vips = pyvips.Image.new_from_array(light).copy(interpretation="scrgb")
    decoded = decode(vips.tiffsave_buffer(), LIMIT)
    assert decoded.header.bits == 32
    assert decoded.image.pixels[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_only_the_first_frame_is_read(format: str) -> None:
    first, second = smooth(), ImageOps.mirror(smooth())
    upload = written(first, format, save_all=True, append_images=[second])
    decoded = decode(upload, LIMIT)
    assert decoded.header.frames == 2
    reference = Pillow.open(io.BytesIO(upload)).convert("RGB")
    assert decoded.header.size == Size(height_px=48, width_px=80)
    assert far(decoded.image.pixels, reference) <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_turn_is_applied_once(format: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    upload = written(smooth(), format, exif=exif)
    reference = ImageOps.exif_transpose(Pillow.open(io.BytesIO(upload))).convert("RGB")
    decoded = decode(upload, LIMIT)
    assert decoded.header == probe(upload, LIMIT)
    assert (decoded.header.size.width_px, decoded.header.size.height_px) == reference.size
    assert decoded.image.size == decoded.header.size
    assert far(decoded.image.pixels, reference) <= CLOSE


def test_a_turn_takes_the_alpha_along() -> None:
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    image = decode(written(Pillow.fromarray(NOISE), "PNG", exif=exif), LIMIT).image
    assert image.alpha is not None
    assert np.array_equal(image.alpha, np.rot90(NOISE[..., 3], -1))
    assert np.array_equal(image.pixels, np.rot90(NOISE[..., :3], -1))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("height_px", "width_px"), [(1, 1), (6, 8000), (8000, 6)])
def test_extreme_shapes(format: FileFormat, height_px: int, width_px: int) -> None:
    upload = written(Pillow.new("RGB", (width_px, height_px), (200, 100, 50)), format.upper())
    pixels = decode(upload, LIMIT).image.pixels
    assert pixels.shape == (height_px, width_px, 3)
    assert far(pixels, Pillow.new("RGB", (width_px, height_px), (200, 100, 50))) <= 3


def test_associated_alpha_in_tiff_is_undone() -> None:
    premultiplied = np.full((4, 4, 4), (100, 50, 25, 128), dtype=np.uint8)
    # Pillow writes ExtraSamples (338) as 2, unassociated; the entry becomes 1.
    entry = struct.pack("<HHII", 338, 3, 1, 2)
    upload = written(Pillow.fromarray(premultiplied), "TIFF")
    assert entry in upload
    upload = upload.replace(entry, struct.pack("<HHII", 338, 3, 1, 1))
    image = decode(upload, LIMIT).image
    assert image.alpha is not None
    assert image.alpha.max() == 128
    assert far(image.pixels, np.full((4, 4, 3), (199, 100, 50), dtype=np.uint8)) <= 1


def test_metadata_comes_back_upright() -> None:
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "Talbot"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    upload = written(smooth(), "JPEG", exif=exif, xmp=xmp)
    metadata = decode(upload, LIMIT, keep_metadata=True).metadata
    assert metadata is not None
    assert metadata.exif is not None
    kept = Pillow.Exif()
    kept.load(metadata.exif)
    assert kept[ORIENTATION] == 1
    assert kept[0x010F] == "Talbot"
    assert metadata.xmp is not None
    assert b'tiff:Orientation="1"' in metadata.xmp
    assert metadata.iptc is None


def test_the_pixels_may_be_written_to() -> None:
    assert decode(written(smooth(), "PNG"), LIMIT).image.pixels.flags.writeable


def test_avif_is_known_by_a_compatible_brand() -> None:
    box = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"miaf", b"avif")
    assert sniff(box) == "avif"
    assert sniff(box.replace(b"avif", b"heic")) is None
