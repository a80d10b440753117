import io
import struct

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from calotype.codec.decode import decode

LIMIT = 1_000_000
# Colorants adapted to D50 (rows X, Y, Z; columns red, green, blue): Adobe RGB (1998) annex B and
# IEC 61966-2-1, as their published profiles hold them.
ADOBE_RGB = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
GAMMA = 563 / 256
COLOURS = np.array(
    [[128, 128, 128], [255, 255, 255], [0, 0, 0], [200, 150, 140], [120, 140, 100], [90, 80, 160]],
    dtype=np.uint8,
)


def written(picture: Pillow.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def matrix_profile(colorants: NDArray[np.float64], space: bytes = b"RGB ") -> bytes:
    """Build a display profile of three colorants and one gamma (ICC.1:2001-04)."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv" + struct.pack(">IIHH", 0, 1, round(GAMMA * 256), 0)
    desc = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(79)
    tags = {b"desc": desc, b"cprt": b"text" + bytes(4) + b"none\0\0\0\0"}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(*white)
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*colorants[:, index])
        tags[name + b"TRC"] = curve
    if space == b"GRAY":
        tags = {name: tags[name] for name in (b"desc", b"cprt", b"wtpt")} | {b"kTRC": curve}
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(data), b"none", 0x02400000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*white)
    return head.ljust(128, b"\0") + table + data


def srgb_of(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    light = (colours / 255.0) ** GAMMA @ (np.linalg.inv(SRGB) @ ADOBE_RGB).T
    light = light.clip(0, 1)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_embedded_profile_is_applied(format: str, mode: str) -> None:
    picture = Pillow.fromarray(COLOURS[None]).convert(mode)
    options: dict[str, object] = {"lossless": True} if format == "WEBP" else {}
    upload = written(picture, format, icc_profile=matrix_profile(ADOBE_RGB), **options)
    pixels = decode(upload, LIMIT).image.pixels[0]
    assert np.abs(pixels - srgb_of(COLOURS)).max() <= 2
    assert np.abs(pixels[3:] - COLOURS[3:].astype(int)).max() > 4  # something did change


def test_a_profile_of_16_bit_samples_is_applied() -> None:
    deep = (COLOURS[None].astype(np.uint16)) * 257
    vips = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    vips.set_type(pyvips.GValue.blob_type, "icc-profile-data", matrix_profile(ADOBE_RGB))
    pixels = decode(vips.pngsave_buffer(), LIMIT).image.pixels[0]
    assert np.abs(pixels - srgb_of(COLOURS)).max() <= 2


def test_a_gray_profile_is_applied() -> None:
    levels = np.array([[0, 60, 128, 200, 255]], dtype=np.uint8)
    upload = written(
        Pillow.fromarray(levels), "PNG", icc_profile=matrix_profile(ADOBE_RGB, b"GRAY")
    )
    pixels = decode(upload, LIMIT).image.pixels[0]
    expected = srgb_of(np.repeat(levels[0][:, None], 3, axis=1))
    assert np.abs(pixels - expected).max() <= 2


def test_an_srgb_profile_changes_nothing() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    upload = written(Pillow.fromarray(noise), "PNG", icc_profile=profile)
    assert np.array_equal(decode(upload, LIMIT).image.pixels, noise)


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        bytes(500),
        matrix_profile(ADOBE_RGB)[:300],
        matrix_profile(ADOBE_RGB, b"GRAY"),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["text", "zeros", "cut", "gray", "lab"],
)
def test_a_bad_profile_means_srgb(format: str, profile: bytes) -> None:
    picture = Pillow.new("RGB", (16, 16), (200, 120, 60))
    plain = decode(written(picture, format), LIMIT).image.pixels
    pixels = decode(written(picture, format, icc_profile=profile), LIMIT).image.pixels
    assert np.abs(pixels.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
@pytest.mark.parametrize("profile", [None, b"no profile at all"])
def test_cmyk_without_a_usable_profile(format: str, profile: bytes | None) -> None:
    inks = {(0, 0, 0, 0): 255, (0, 0, 0, 255): 30, (0, 255, 255, 0): None}
    for ink, gray in inks.items():
        options = {} if profile is None else {"icc_profile": profile}
        upload = written(Pillow.new("CMYK", (16, 16), ink), format, **options)
        red, green, blue = decode(upload, LIMIT).image.pixels[8, 8].tolist()
        if gray is None:
            assert red > 180
            assert max(green, blue) < 70
        else:
            assert max(abs(red - gray), abs(green - gray), abs(blue - gray)) <= 30


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_with_its_profile(format: str) -> None:
    press = pyvips.Operation.call("profile_load", "cmyk")
    picture = Pillow.new("CMYK", (16, 16), (20, 120, 200, 10))
    tagged = decode(written(picture, format, icc_profile=press), LIMIT).image.pixels[8, 8]
    cmyk, srgb = ImageCms.getOpenProfile(io.BytesIO(press)), ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(
        picture,
        cmyk,
        srgb,
        outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert expected is not None
    assert np.abs(tagged.astype(int) - expected.getpixel((8, 8))).max() <= 3
