"""Architectures of all kinds, from both forms of file, over HTTP."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.server import pixels_of, problem_of, serving, text
from checkpoints import MAKERS, save, spec_of
from models import photo

SERVED = tuple(name for name in MAKERS if name != "rgba")
SCALES = {"esrgan": 4, "swinir": 2}
MASKED = ("lama", "mat")
WAITING = {"x-wait-for-model": "true"}


def png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", SERVED)
async def test_answers_over_http(
    name: str, suffix: str, tmp_path: Path, compiled_dir: Path
) -> None:
    spec = spec_of(save(name, tmp_path / f"{name}{suffix}"))
    pixels = photo(50, 70)
    mask = np.zeros_like(pixels)
    mask[10:30, 20:45] = 255
    parameters: dict[str, Any] = {"output_format": "png"}
    if name in MASKED:
        assert spec.task == "inpainting"
        parameters |= {"mask_image": text(png(mask)), "mask_blur": 0}
    settings = {"precision": "f32", "cache_dir": str(compiled_dir)}
    async with serving(tmp_path, spec, **settings) as server:
        answer = await server.run(spec.id, png(pixels), WAITING, **parameters)
        assert answer.status_code == 200, answer.text
        found = pixels_of(answer.content)
    scale = SCALES.get(name, 1)
    assert found.shape == (50 * scale, 70 * scale, 3)
    if name in MASKED:
        kept = mask[..., 0] == 0
        assert np.array_equal(found[kept], pixels[kept])
        assert not np.array_equal(found, pixels)
        assert float(answer.headers["x-unchanged-pixels"]) >= kept.mean() - 1e-6


async def test_a_broken_checkpoint_is_said_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"nonsense")
    spec = spec_of(tmp_path / "net.pth")
    async with serving(tmp_path, spec) as server:
        status, kind, said = problem_of(await server.run(spec.id))
    assert (status, kind) == (500, "config")
    assert str(tmp_path) not in said
