"""Every embedded model in every precision that this machine has."""

from pathlib import Path

import numpy as np
import pytest

from calotype.backends.base import Precision
from calotype.domain.image import Pixels
from models import CATALOG, job, load, photo, psnr

SIDE_PX = 96
ALL = [spec.alias for spec in CATALOG.all()]
LEAST_DB = {"upscale": 40, "upscale-anime": 40, "upscale-fast": 40, "style": 30, "colorize": 40}
"""How near bf16 is to f32; the others compute in f32 always."""


def images(alias: str) -> dict[str, Pixels]:
    """Return what the model needs beside the picture."""
    mask = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    mask[30:50, 30:60] = 255
    needed = {
        "style-image": {"style_image": photo(80, 90, seed=1)},
        "inpaint": {"mask_image": mask},
    }
    return needed.get(alias, {})


def run(alias: str, cache: Path, precision: Precision) -> Pixels:
    spec = CATALOG.get(alias)
    backend = load(spec, cache, precision)
    (answer,) = backend.run([job(spec, photo(SIDE_PX, SIDE_PX), {}, images(alias))])
    return answer.pixels


@pytest.mark.parametrize("alias", ALL)
def test_bf16_is_near_f32(alias: str, compiled_dir: Path) -> None:
    """Where the processor has no bf16, both are f32."""
    exact, found = (run(alias, compiled_dir, precision) for precision in ("f32", "bf16"))
    assert found.shape == exact.shape
    assert psnr(found, exact) >= LEAST_DB.get(alias, np.inf)
