"""JPEG without libvips: the same pixels, and only where nothing else is to be done."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from calotype.codec import decode as module
from calotype.codec import jpeg
from calotype.codec.decode import decode, probe
from calotype.domain.image import Size
from calotype.errors import BadImageError, PayloadTooLargeError

LIMIT = 1_000_000
RNG = np.random.default_rng(11)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
ORIENTATION = 0x0112


def picture(height_px: int = 45, width_px: int = 67, mode: str = "RGB") -> Pillow.Image:
    coarse = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Pillow.fromarray(coarse).resize((width_px, height_px), 3).convert(mode)


def written(image: Pillow.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def by_libvips(upload: bytes, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "plain_size", lambda _: None)
        return decode(upload, LIMIT).image.pixels


PLAIN = {
    "4:4:4": written(picture(), subsampling=0),
    "4:2:2": written(picture(), subsampling=1),
    "4:2:0": written(picture(), subsampling=2),
    "gray": written(picture(mode="L")),
    "one pixel": written(picture(1, 1)),
    "low quality": written(picture(), quality=3),
    "optimized": written(picture(), optimize=True),
    "restarts": written(picture(), restart_marker_rows=1),
    "upright": written(picture(), exif=turned(1)),
    "exif": written(picture(), exif=Pillow.Exif().tobytes()),
    "srgb": written(picture(), icc_profile=SRGB),
    "damaged profile": written(picture(), icc_profile=SRGB[:16] + b"RGB " + b"\0" * 200),
    "comment": written(picture(), comment="hello"),
}
OTHER = {
    "progressive": written(picture(), progressive=True),
    "on its side": written(picture(), exif=turned(6)),
    "mirrored": written(picture(), exif=turned(2)),
    "no orientation": written(picture(), exif=turned(9)),
    "cmyk": written(picture(mode="CMYK")),
    "profile": written(picture(), icc_profile=LAB),
    "damaged exif": written(picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("upload", PLAIN.values(), ids=PLAIN)
def test_pixels_and_header_are_those_of_libvips(
    upload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = decode(upload, LIMIT)
    assert jpeg.plain_size(upload) == decoded.image.size == probe(upload, LIMIT).size
    assert decoded.header == probe(upload, LIMIT)
    assert np.array_equal(decoded.image.pixels, by_libvips(upload, monkeypatch))


@pytest.mark.parametrize("upload", PLAIN.values(), ids=PLAIN)
def test_libvips_is_not_asked(upload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("libvips was asked")

    monkeypatch.setattr(module, "_open_bytes", refuse)
    decode(upload, LIMIT)


@pytest.mark.parametrize("upload", OTHER.values(), ids=OTHER)
def test_what_needs_more_than_decoding_goes_to_libvips(upload: bytes) -> None:
    assert jpeg.plain_size(upload) is None
    assert decode(upload, LIMIT).image.size == probe(upload, LIMIT).size


def test_real_photographs(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    styles = sorted((shared / "data" / "eval" / "styles").glob("*.jpg"))
    assert styles
    for file in styles:
        upload = file.read_bytes()
        if (size := jpeg.plain_size(upload)) is None or size.pixels > LIMIT:
            continue
        assert np.array_equal(decode(upload, LIMIT).image.pixels, by_libvips(upload, monkeypatch))


def test_a_wide_profile_changes_colours() -> None:
    profile = (
        pyvips.Image.black(1, 1, bands=3)
        .copy(interpretation="srgb")
        .icc_export(output_profile="p3")
    )
    upload = written(picture(), icc_profile=profile.get("icc-profile-data"))
    assert jpeg.plain_size(upload) is None


def test_two_frames_are_libvips_s_matter() -> None:
    upload = PLAIN["4:4:4"]
    start = upload.index(b"\xff\xc0")
    length = struct.unpack_from(">H", upload, start + 2)[0] + 2
    frame = upload[start : start + length]
    assert jpeg.plain_size(upload[:start] + frame + upload[start:]) is None


@pytest.mark.parametrize("kept", range(2, 700, 13))
def test_a_cut_off_file_is_damaged(kept: int) -> None:
    upload = PLAIN["4:2:0"]
    assert len(upload) > 700
    with pytest.raises(BadImageError):
        decode(upload[:kept], LIMIT)


def test_a_cut_off_picture_is_damaged() -> None:
    upload = PLAIN["4:4:4"]
    assert jpeg.plain_size(upload[:-200]) == Size(height_px=45, width_px=67)
    with pytest.raises(BadImageError, match="cut off or damaged"):
        decode(upload[:-200], LIMIT)


def test_too_many_pixels_are_seen_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(jpeg, "decode", refuse)
    with pytest.raises(PayloadTooLargeError, match=r"3015 pixels \(67x45\), the limit is 3000"):
        decode(PLAIN["4:4:4"], 3000)
    claims = bytearray(PLAIN["4:4:4"])
    struct.pack_into(">HH", claims, claims.index(b"\xff\xc0") + 5, 65500, 65500)
    with pytest.raises(PayloadTooLargeError, match="65500x65500"):
        decode(bytes(claims), LIMIT)


def test_metadata_is_kept_when_it_is_asked_for() -> None:
    decoded = decode(PLAIN["upright"], LIMIT, keep_metadata=True)
    assert decoded.metadata is not None
    assert decoded.metadata.exif
