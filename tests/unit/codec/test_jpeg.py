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
    def refuse(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(jpeg, "decode", refuse)
    with pytest.raises(PayloadTooLargeError, match=r"3015 pixels \(67x45\), the limit is 3000"):
        decode(PLAIN["4:4:4"], 3000)
    claims = bytearray(PLAIN["4:4:4"])
    struct.pack_into(">HH", claims, claims.index(b"\xff\xc0") + 5, 65500, 65500)
    with pytest.raises(PayloadTooLargeError, match="65500x65500"):
        decode(bytes(claims), LIMIT)


def segment(upload: bytes, marker: int) -> bytes:
    start = upload.index(bytes((0xFF, marker)))
    return upload[start : start + 2 + int.from_bytes(upload[start + 2 : start + 4])]


@pytest.mark.parametrize(
    "before", [b"\xff\x01", b"\xff", b"\xff\xd0", b"\xff\xd8", b"\xff\x02\0\2", b"\xff\xc8\0\2"]
)
def test_only_what_every_reader_reads_alike_is_read(before: bytes) -> None:
    """A marker without a length, or a byte that fills up, would hide another frame from us."""
    upload = PLAIN["4:4:4"]
    assert jpeg.plain_size(upload[:2] + before + upload[2:]) is None


def test_another_frame_can_t_be_hidden() -> None:
    large, small = written(picture(400, 400)), PLAIN["one pixel"]
    decoy = segment(small, 0xC0) + b"\xff\xda\0\2"
    landing = 4 + 0xFFE5  # where one lands who takes the marker after FF 01 for a length
    scan = large.index(b"\xff\xda")
    head, rest = large[2:scan], large[scan:]
    fill = landing - 4 - len(head) - 8
    hidden = b"".join(
        (
            b"\xff\xd8\xff\x01\xff\xe5" + struct.pack(">H", fill + 2) + bytes(fill),
            head + b"\xff\xe6" + struct.pack(">H", 2 + len(decoy)) + decoy,
            rest,
        )
    )
    assert hidden[landing : landing + len(decoy)] == decoy
    with pytest.raises(PayloadTooLargeError, match="400x400"):
        decode(hidden, 100_000)


def test_the_decoder_must_agree_about_the_size() -> None:
    with pytest.raises(ValueError, match="the header says 67x45, not 9x8"):
        jpeg.decode(PLAIN["4:4:4"], Size(height_px=8, width_px=9))


def test_scans_without_number_are_not_read_here() -> None:
    """Each takes as long as the whole picture; libvips refuses too many."""
    upload = PLAIN["4:4:4"]
    scan = segment(upload, 0xDA)
    one = b"\xff\xda\0\x08\1" + scan[5:7] + scan[-3:]
    assert jpeg.plain_size(upload.replace(scan, one * 50)) is None


def test_no_more_is_looked_at_than_photographs_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> bool:
        raise AssertionError("a profile was looked at")

    upload = PLAIN["4:4:4"]
    comments = b"\xff\xfe\0\2" * 200
    assert jpeg.plain_size(upload[:2] + comments + upload[2:]) is None
    assert jpeg.plain_size(upload[:2] + comments[:40] + upload[2:]) is not None
    monkeypatch.setattr(jpeg, "moves_nothing", refuse)
    profile = segment(PLAIN["srgb"], 0xE2)
    assert jpeg.plain_size(upload[:2] + 2 * profile + upload[2:]) is None
    exif = segment(PLAIN["upright"], 0xE1)
    assert jpeg.plain_size(upload[:2] + 2 * exif + upload[2:]) is None


def test_metadata_is_kept_when_it_is_asked_for() -> None:
    decoded = decode(PLAIN["upright"], LIMIT, keep_metadata=True)
    assert decoded.metadata is not None
    assert decoded.metadata.exif
