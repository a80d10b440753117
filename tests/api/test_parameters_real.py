"""Every parameter of every embedded model has its effect, over HTTP, with the real networks.

The table below must name each (model, parameter) of the catalog: a new one without a row fails.
"""

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.server import Server, serving, text
from calotype.domain.image import Pixels
from models import CATALOG, photo, psnr

Pictures = tuple[Pixels, Pixels]
Check = Callable[[Pixels, Pixels], bool]
HEIGHT, WIDTH = 36, 52


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mask(left: int, right: int) -> str:
    """White between two columns."""
    white = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    white[8:28, left:right] = 255
    return text(png(white))


# Coloured, in middle tones: nothing is clipped whatever a style does to the luma.
INPUT = (photo(HEIGHT, WIDTH, 3) // 3 + 80).astype(np.uint8)
STYLE_A, STYLE_B = (text(png(photo(64, 64, seed))) for seed in (21, 22))


def chroma(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float64]]:
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    difference: np.ndarray[Any, np.dtype[np.float64]] = pixels - luma[..., None]
    return difference


def is_larger(one: Pixels, two: Pixels) -> bool:
    return one.shape[:2] == (2 * HEIGHT, 2 * WIDTH) and two.shape[:2] == (3 * HEIGHT, 3 * WIDTH)


def is_another(one: Pixels, two: Pixels) -> bool:
    return one.shape == two.shape and psnr(one, two) < 35


def is_nearer_with_less(one: Pixels, two: Pixels) -> bool:
    return psnr(one, INPUT) > psnr(two, INPUT) + 1


def keeps_colour(one: Pixels, two: Pixels) -> bool:
    kept, styled = (np.abs(chroma(p) - chroma(INPUT)).mean() for p in (one, two))
    return bool(kept < styled / 2)


def is_less_colourful(one: Pixels, two: Pixels) -> bool:
    return bool(np.abs(chroma(one)).mean() < np.abs(chroma(two)).mean() / 2)


def differs_where_the_masks_are(one: Pixels, two: Pixels) -> bool:
    """The first one's is on the left, the second one's on the right."""
    left, right = np.s_[:, : WIDTH // 2], np.s_[:, WIDTH // 2 :]
    kept = np.array_equal(one[right], INPUT[right]) and np.array_equal(two[left], INPUT[left])
    return kept and is_another(one[left], INPUT[left]) and is_another(two[right], INPUT[right])


def changes_less(one: Pixels, two: Pixels) -> bool:
    first, second = ((p != INPUT).any(2).sum() for p in (one, two))
    return bool(0 < first < second)


def has_exact_size(one: Pixels, two: Pixels) -> bool:
    return one.shape == (17, 31, 3) and two.shape == (90, 40, 3)


SIZES = ({"width": 31, "height": 17}, {"width": 40, "height": 90})
# (model, parameter) -> one value, another, what must be true of the two pictures
EFFECTS: dict[tuple[str, str], tuple[object, object, Check]] = {
    ("upscale-fast", "scale"): (2, 3, is_larger),
    ("style", "style"): ("starry", "3:0.5,12:0.5", is_another),
    ("style", "strength"): (0.3, 1, is_nearer_with_less),
    ("style", "preserve_color"): (True, False, keeps_colour),
    ("style-image", "style_image"): (STYLE_A, STYLE_B, is_another),
    ("style-image", "strength"): (0.1, 1, is_nearer_with_less),
    ("style-image", "preserve_color"): (True, False, keeps_colour),
    ("colorize", "strength"): (0.3, 1, is_less_colourful),
    ("inpaint", "mask_image"): (mask(4, 16), mask(36, 48), differs_where_the_masks_are),
    ("inpaint", "mask_blur"): (0, 6, changes_less),
    **{(spec.alias, "target_size"): (*SIZES, has_exact_size) for spec in CATALOG.all()},
}
REQUIRED = {
    "style-image": {"style_image": STYLE_A},
    "inpaint": {"mask_image": mask(16, 28)},
}


@pytest.fixture
async def real(tmp_path: Path, compiled_dir: Path) -> AsyncIterator[Server]:
    """A server with the embedded models, which keep their compiled networks."""
    async with serving(
        tmp_path, *CATALOG.all(), cache_dir=str(compiled_dir), hold_s=120.0, precision="f32"
    ) as started:
        yield started


def pixels_of(body: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_the_table_names_every_parameter() -> None:
    declared = {(spec.alias, p.name) for spec in CATALOG.all() for p in spec.params}
    sizes = {(spec.alias, "target_size") for spec in CATALOG.all()}
    assert set(EFFECTS) == declared | sizes


@pytest.mark.parametrize(("model", "name"), EFFECTS)
async def test_a_parameter_has_its_effect(real: Server, model: str, name: str) -> None:
    first, second, check = EFFECTS[model, name]
    pictures = []
    for value in (first, second):
        parameters: dict[str, Any] = {**REQUIRED.get(model, {}), name: value}
        answer = await real.run(model, png(INPUT), **parameters)
        assert answer.status_code == 200, answer.text
        assert "x-hf-warning" not in answer.headers
        pictures.append(pixels_of(answer.content))
    assert check(*pictures)


@pytest.mark.parametrize("model", [spec.alias for spec in CATALOG.all()])
async def test_output_format_is_what_comes_back(real: Server, model: str) -> None:
    for file_format in ("jpeg", "webp", "png"):
        parameters: dict[str, Any] = {**REQUIRED.get(model, {}), "output_format": file_format}
        answer = await real.run(model, png(INPUT), **parameters)
        assert answer.headers["content-type"] == f"image/{file_format}"
        assert (Image.open(io.BytesIO(answer.content)).format or "").lower() == file_format


@pytest.mark.parametrize("model", [spec.alias for spec in CATALOG.all()])
async def test_an_ignored_parameter_is_reported_or_refused(real: Server, model: str) -> None:
    parameters: dict[str, Any] = {**REQUIRED.get(model, {}), "guidance_scale": 7.5, "sparkle": 1}
    answer = await real.run(model, png(INPUT), **parameters)
    assert answer.status_code == 200
    warnings = answer.headers.get_list("x-hf-warning")
    assert any("guidance_scale was ignored" in w for w in warnings)
    assert any("sparkle was ignored" in w for w in warnings)
    refused = await real.run(model, png(INPUT), {"x-strict": "true"}, **parameters)
    assert refused.status_code == 422
    assert "guidance_scale" in refused.json()["error"]
