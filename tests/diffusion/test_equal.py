"""Pictures over HTTP are what diffusers itself makes, bit for bit."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.server import Server, serving
from calotype.domain.image import Pixels
from diffusion.conftest import Family, encoded, png, shown
from pipelines import FAMILIES

EXACT: dict[str, Any] = {"diffusion_engine": "torch", "precision": "f32", "hold_s": 60.0}


@pytest.fixture
async def server(tmp_path: Path, families: dict[str, Family]) -> AsyncIterator[Server]:
    specs = (family.spec for family in families.values())
    async with serving(tmp_path, *specs, **EXACT) as started:
        yield started


@pytest.mark.parametrize("name", FAMILIES)
async def test_every_family_equals_diffusers(
    name: str, server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families[name]
    images = {key: encoded(value) for key, value in family.images.items()}
    response = await server.run(
        f"acme/{name}", png(pixels), None, **family.parameters, **images, output_format="png"
    )
    expected = family.direct(pixels)
    assert np.array_equal(shown(response), expected)
    assert expected.std() > 1, "a flat picture would equal anything"
    assert response.headers["x-seed"] == "7"
    assert "x-hf-warning" not in response.headers
