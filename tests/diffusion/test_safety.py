"""A pipeline keeps its checker, and the answer tells the verdict."""

from pathlib import Path

import numpy as np
import pytest

import pipelines
from api.server import problem_of, serving
from calotype.catalog.scan import scan_models_dir
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from diffusion.conftest import Family, png, shown
from diffusion.test_equal import EXACT

REFUSING, ACCEPTING = -10.0, 10.0
"""Bounds on the likeness to a concept, which lies in -1..1."""


def checked(folder: Path, bound: float) -> ModelSpec:
    """Save a pipeline whose checker objects to everything, or to nothing."""
    checker, extractor = pipelines.checker()
    checker.concept_embeds_weights.data.fill_(bound)
    checker.special_care_embeds_weights.data.fill_(ACCEPTING)
    pipe = pipelines.pix2pix(safety_checker=checker, feature_extractor=extractor)
    pipelines.save(folder, "checked", pipe)
    (spec,) = scan_models_dir(folder)
    return spec


@pytest.mark.parametrize("mode", ["black", "refuse", "ignore"])
async def test_what_the_checker_objects_to(
    mode: str, tmp_path: Path, families: dict[str, Family], pixels: Pixels
) -> None:
    spec, family = checked(tmp_path / "models", REFUSING), families["pix2pix"]
    async with serving(tmp_path, spec, family.spec, **EXACT, safety=mode) as server:
        answer = await server.run(spec.id, png(pixels), **family.parameters)
        unchecked = await server.run(family.spec.id, png(pixels), **family.parameters)
        if mode == "refuse":
            status, kind, text = problem_of(answer)
            assert (status, kind) == (422, "unsafe")
            assert "safety checker objects" in text
            return
        assert answer.headers["x-safety"] == "flagged"
        assert answer.headers["x-hf-warning"].startswith("safety; ")
        if mode == "black":
            assert not shown(answer).any()
        else:
            assert np.array_equal(shown(answer), shown(unchecked))
        again = await server.run(spec.id, png(pixels), **family.parameters)
        assert again.headers["x-cache"] == "hit"
        assert again.headers["x-safety"] == "flagged"


@pytest.mark.parametrize("mode", ["black", "refuse", "ignore"])
async def test_what_passes(
    mode: str, tmp_path: Path, families: dict[str, Family], pixels: Pixels
) -> None:
    spec, family = checked(tmp_path / "models", ACCEPTING), families["pix2pix"]
    async with serving(tmp_path, spec, family.spec, **EXACT, safety=mode) as server:
        answer = await server.run(spec.id, png(pixels), **family.parameters)
        assert answer.headers["x-safety"] == "passed"
        assert "x-hf-warning" not in answer.headers
        unchecked = await server.run(family.spec.id, png(pixels), **family.parameters)
        assert "x-safety" not in unchecked.headers
        assert np.array_equal(shown(answer), shown(unchecked))


async def test_a_picture_that_nobody_asked_for_is_not_refused(
    tmp_path: Path, families: dict[str, Family], pixels: Pixels
) -> None:
    spec, family = checked(tmp_path / "models", REFUSING), families["pix2pix"]
    async with serving(tmp_path, spec, precision="f32", safety="refuse") as server:
        answer = await server.run(
            spec.id, png(pixels), {"x-wait-for-model": "true"}, **family.parameters
        )
        assert problem_of(answer)[1] == "unsafe", "the request's own picture"
        assert (await server.client.get(f"/models/{spec.id}")).json()["state"] == "loaded"
