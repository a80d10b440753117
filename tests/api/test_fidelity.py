"""Pictures of every kind go through the whole server and come back right.

The model gives back what it gets, so that whatever differs is the server's doing.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps

from api.server import Server

Picture = Image.Image


def gradient(width: int = 24, height: int = 16) -> Picture:
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) * 3], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Picture, file_format: str, **options: Any) -> bytes:  # noqa: ANN401
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def alpha_of(image: Picture) -> Picture:
    ramp = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(ramp))
    return image


def sixteen_bit() -> bytes:
    pixels = np.asarray(gradient()).astype(np.uint16) * 257
    vips = pyvips.Image.new_from_memory(pixels.tobytes(), 24, 16, 3, "ushort")
    data: bytes = vips.copy(interpretation="rgb16").pngsave_buffer()
    return data


def animated() -> bytes:
    frames = [gradient(), Image.new("RGB", (24, 16), "red")]
    return saved(frames[0].quantize(64), "GIF", save_all=True, append_images=[frames[1]])


RGB: dict[str, Callable[[], tuple[bytes, Picture]]] = {
    "gray": lambda: (saved(gradient().convert("L"), "PNG"), gradient().convert("L")),
    "16-bit": lambda: (sixteen_bit(), gradient()),
    "1x1": lambda: (saved(gradient(1, 1), "PNG"), gradient(1, 1)),
    "8000x6": lambda: (saved(gradient(8000, 6), "PNG"), gradient(8000, 6)),
    "palette": lambda: (saved(gradient().quantize(200), "PNG"), gradient().quantize(200)),
    "tiff": lambda: (saved(gradient(), "TIFF"), gradient()),
    "lossless webp": lambda: (saved(gradient(), "WEBP", lossless=True), gradient()),
}


@pytest.mark.parametrize("kind", RGB)
async def test_pixels_are_untouched(server: Server, kind: str) -> None:
    upload, expected = RGB[kind]()
    answer = await server.run("echo", upload, {"accept": "image/png"})
    assert answer.status_code == 200, answer.text
    found = Image.open(io.BytesIO(answer.content))
    assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(expected.convert("RGB")))
    warning = answer.headers.get("x-hf-warning", "")
    assert ("16 bits a sample were rounded to 8" in warning) == (kind == "16-bit")


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
async def test_alpha_is_carried_through(server: Server, kind: str) -> None:
    image = alpha_of(gradient())
    source = image.convert("LA") if kind == "LA" else image
    if kind == "palette":
        source = image.quantize(64)
    answer = await server.run("echo", saved(source, "PNG"))
    found = Image.open(io.BytesIO(answer.content))
    assert found.mode == "RGBA"
    assert np.array_equal(np.asarray(found), np.asarray(source.convert("RGBA")))


async def test_alpha_in_a_jpeg_is_laid_on_white_and_reported(server: Server) -> None:
    answer = await server.run("echo", saved(alpha_of(gradient()), "PNG"), {"accept": "image/jpeg"})
    found = Image.open(io.BytesIO(answer.content))
    assert found.mode == "RGB"
    assert min(found.getpixel((0, 8))) > 240  # type: ignore[arg-type]
    assert "transparency" in answer.headers["x-hf-warning"]
    again = await server.run("echo", saved(alpha_of(gradient()), "PNG"), {"accept": "image/jpeg"})
    assert again.headers["x-cache"] == "hit"
    assert again.headers["x-hf-warning"] == answer.headers["x-hf-warning"]


async def test_alpha_is_resized_with_the_picture(server: Server) -> None:
    image = Image.new("RGBA", (10, 10), (90, 120, 30, 128))
    size = {"width": 33, "height": 7}
    answer = await server.run("echo", saved(image, "PNG"), target_size=size)
    found = Image.open(io.BytesIO(answer.content))
    assert found.size == (33, 7)
    assert set(map(tuple, np.asarray(found).reshape(-1, 4).tolist())) == {(90, 120, 30, 128)}


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_turned_jpeg_comes_back_upright_once(server: Server, orientation: int) -> None:
    image = Image.new("RGB", (32, 16), "white")
    image.paste((200, 0, 0), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upload = saved(image, "JPEG", quality=98, exif=exif)
    with Image.open(io.BytesIO(upload)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
    answer = await server.run("echo", upload, {"accept": "image/png"})
    with Image.open(io.BytesIO(answer.content)) as found:
        assert found.getexif().get(0x0112, 1) == 1
        assert found.size == (expected.shape[1], expected.shape[0])
        assert np.abs(np.asarray(found).astype(int) - expected).max() <= 12


async def test_cmyk_becomes_rgb(server: Server) -> None:
    upload = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    answer = await server.run("echo", upload, {"accept": "image/png"})
    red, green, blue = Image.open(io.BytesIO(answer.content)).getpixel((8, 8))  # type: ignore[misc]
    assert red > 180
    assert max(green, blue) < 90


async def test_only_the_first_frame_counts(server: Server) -> None:
    answer = await server.run("echo", animated())
    assert answer.headers["content-type"] == "image/png"
    found = Image.open(io.BytesIO(answer.content))
    assert getattr(found, "n_frames", 1) == 1
    assert answer.headers["x-hf-warning"] == "input; only the first of 2 frames is used"
    expected = np.asarray(gradient().quantize(64).convert("RGB"))
    assert np.array_equal(np.asarray(found.convert("RGB")), expected)


async def test_metadata_is_stripped(server: Server) -> None:
    exif = Image.Exif()
    exif[0x013B] = "A. Photographer"
    upload = saved(gradient(), "JPEG", exif=exif)
    answer = await server.run("echo", upload)
    assert answer.headers["content-type"] == "image/jpeg"
    assert b"Photographer" not in answer.content
    assert not Image.open(io.BytesIO(answer.content)).getexif()


async def test_a_format_that_cannot_hold_the_result_gives_way_to_png(server: Server) -> None:
    upload, size = saved(gradient(), "WEBP"), {"width": 16384, "height": 1}
    for accept in ("*/*", "image/webp, image/png;q=0.5"):
        answer = await server.run("echo", upload, {"accept": accept}, target_size=size)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    answer = await server.run("echo", upload, target_size=size, output_format="webp")
    assert answer.status_code == 422
    assert "output_format must be png for a picture of 16384x1" in answer.json()["error"]


async def test_a_tiff_of_signed_samples_is_refused(server: Server) -> None:
    pixels = np.zeros((6, 8, 3), np.int16)
    vips = pyvips.Image.new_from_memory(pixels.tobytes(), 8, 6, 3, "short")
    answer = await server.run("echo", vips.tiffsave_buffer())
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("cannot identify image file")
