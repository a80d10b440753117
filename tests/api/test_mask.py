"""Masks through the whole server: what is repainted, and what stays as it is, bit for bit.

The model makes a negative of what it sees, so that every pixel it has a say in differs.
"""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.server import INVERT, Server, fake, serving, text
from calotype.domain.image import Pixels
from calotype.domain.model import ParamSpec

MASK = ParamSpec(name="mask_image", type="image", help="what to repaint")
BLUR = ParamSpec(name="mask_blur", type="integer", help="soft edge", default=0, minimum=0)
REPAINT = fake("repaint", INVERT, MASK, BLUR)
ALL: dict[str, Any] = {"invert": True, "output_format": "png"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path, REPAINT, webp_quality=100) as started:
        yield started


def photo(h: int = 40, w: int = 60, channels: int = 3) -> Pixels:
    """No value is its own negative, or near it."""
    return np.random.default_rng(3).integers(0, 100, (h, w, channels), dtype=np.uint8)


def file(pixels: np.ndarray[Any, np.dtype[np.uint8]], kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def opened(body: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(body)))


def hole(h: int = 40, w: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = np.zeros((h, w), np.uint8)
    mask[10:20, 30:45] = 255
    return mask


async def test_white_is_repainted_and_nothing_else(server: Server) -> None:
    pixels, mask = photo(), hole()
    answer = await server.run("repaint", file(pixels), mask_image=text(file(mask)), **ALL)
    found = opened(answer.content)
    expected = np.where(mask[:, :, None] > 0, 255 - pixels, pixels)
    assert np.array_equal(found, expected)
    assert answer.headers["x-unchanged-pixels"] == "0.9375"
    assert "x-hf-warning" not in answer.headers


async def test_the_threshold_is_127(server: Server) -> None:
    pixels, mask = photo(1, 4), np.array([[0, 127, 128, 255]], np.uint8)
    answer = await server.run("repaint", file(pixels), mask_image=text(file(mask)), **ALL)
    found = opened(answer.content)
    assert [bool((found[0, x] != pixels[0, x]).any()) for x in range(4)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "P", "LA"])
async def test_masks_come_in_every_mode(server: Server, mode: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(hole()).convert(mode).save(stream, "PNG")
    answer = await server.run("repaint", file(photo()), mask_image=text(stream.getvalue()), **ALL)
    assert answer.headers["x-unchanged-pixels"] == "0.9375"


async def test_what_is_transparent_in_a_mask_is_not_white(server: Server) -> None:
    mask = np.full((40, 60, 4), 255, np.uint8)
    mask[:, :, 3] = hole()
    answer = await server.run("repaint", file(photo()), mask_image=text(file(mask)), **ALL)
    assert answer.headers["x-unchanged-pixels"] == "0.9375"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_without_a_mask_what_is_transparent_is_repainted(server: Server, kind: str) -> None:
    pixels = photo(channels=4)
    pixels[:, :, 3] = 255 - hole()
    pixels[0, 0, 3] = 128  # mostly opaque: stays, and stays as transparent as it was
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    answer = await server.run("repaint", file(pixels, kind, **options), invert=True)
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    found = opened(answer.content)
    inside = hole()[:, :, None] > 0
    assert np.array_equal(found[:, :, :3], np.where(inside, 255 - pixels, pixels)[:, :, :3])
    assert np.array_equal(found[:, :, 3], np.where(inside[:, :, 0], 255, pixels[:, :, 3]))


async def test_a_mask_leaves_transparency_alone(server: Server) -> None:
    pixels = photo(channels=4)
    answer = await server.run("repaint", file(pixels), mask_image=text(file(hole())), **ALL)
    assert np.array_equal(opened(answer.content)[:, :, 3], pixels[:, :, 3])


async def test_an_empty_mask_returns_the_picture_and_runs_nothing(server: Server) -> None:
    pixels, mask = photo(), np.full((40, 60), 127, np.uint8)
    answer = await server.run("repaint", file(pixels), mask_image=text(file(mask)), **ALL)
    assert np.array_equal(opened(answer.content), pixels)
    assert answer.headers["x-unchanged-pixels"] == "1"
    status = (await server.client.get("/status/repaint")).json()
    assert status["loaded"] is False


async def test_the_edge_fades_out_around_the_mask(server: Server) -> None:
    pixels, mask = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), np.uint8)
    mask[25:35, 25:35] = 255
    answer = await server.run(
        "repaint", file(pixels), mask_image=text(file(mask)), mask_blur=8, **ALL
    )
    found = opened(answer.content)[:, :, 0].astype(int)
    assert (found[25:35, 25:35] == 255).all(), "all of the mask is repainted"
    row = found[30, 35:]
    assert (np.diff(row) <= 0).all()
    assert 0 < row[4] < 255
    assert (found[:17] == 0).all()
    assert (found[:, 43:] == 0).all(), "no further than 8 pixels"


async def test_a_mask_of_another_size_is_refused_with_both(server: Server) -> None:
    answer = await server.run("repaint", file(photo()), mask_image=text(file(hole(20, 60))))
    assert answer.status_code == 422
    assert answer.json()["error"] == "mask_image must be of the picture's size 60x40, got 60x20"


async def test_a_picture_without_any_mask_is_refused(server: Server) -> None:
    answer = await server.run("repaint", file(photo()))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(
        "mask_image is required by repaint: white is repainted"
    )


async def test_the_whole_answer_is_brought_to_the_target_size(server: Server) -> None:
    answer = await server.run(
        "repaint", file(photo()), mask_image=text(file(hole())),
        target_size={"width": 30, "height": 20}, **ALL,
    )  # fmt: skip
    assert opened(answer.content).shape == (20, 30, 3)
    assert "x-unchanged-pixels" not in answer.headers, "no pixel can be compared"


async def test_lossy_files_are_told(server: Server) -> None:
    upload = file(photo(), "JPEG")
    answer = await server.run("repaint", upload, mask_image=text(file(hole())))
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-hf-warning"] == (
        "output; jpeg changes every pixel a little; output_format png doesn't"
    )


async def test_the_share_comes_from_the_cache_too(server: Server) -> None:
    upload, mask = file(photo()), text(file(hole()))
    first = await server.run("repaint", upload, mask_image=mask, **ALL)
    second = await server.run("repaint", upload, mask_image=mask, **ALL)
    assert second.headers["x-cache"] == "hit"
    assert second.headers["x-unchanged-pixels"] == first.headers["x-unchanged-pixels"] == "0.9375"
