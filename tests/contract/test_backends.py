"""What every backend must do, over every embedded model."""

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

from calotype.backends.base import Backend
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from models import CATALOG, job, load, photo, psnr

FAKE = ModelSpec(id="fake", backend="fake", revision="1", scale=2, options={"steps": 3})
CHECKPOINT = ModelSpec(id="checkpoint", backend="spandrel", revision="1", scale=4)
SPECS = [
    *CATALOG.all(),
    FAKE,
    pytest.param(CHECKPOINT, marks=pytest.mark.filterwarnings("ignore"), id="checkpoint"),
]


@pytest.fixture(params=SPECS, ids=lambda spec: spec.alias or spec.id, scope="module")
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Each model, with tiles so small that the suite stays quick."""
    found: ModelSpec = request.param
    if found is CHECKPOINT:
        pytest.importorskip("spandrel", reason="needs the extra torch")
        checkpoints = importlib.import_module("checkpoints")
        made = checkpoints.save("esrgan", tmp_path_factory.mktemp("checkpoint") / "net.safetensors")
        found = dataclasses.replace(checkpoints.spec_of(made), scale=found.scale)
    tile = 256 if found.backend.startswith("style") else 128
    return dataclasses.replace(found, tile=tile, options={**found.options, "whole_pixels": 150**2})


@pytest.fixture(scope="module")
def backend(spec: ModelSpec, compiled_dir: Path) -> Backend:
    return load(spec, compiled_dir)


def images_of(spec: ModelSpec, pixels: Pixels) -> dict[str, Pixels]:
    """Return what a model needs beside a picture."""
    images = {p.name: photo(90, 70, 5) for p in spec.params if p.type == "image"}
    if "mask_image" in images:
        h, w = pixels.shape[:2]
        mask = images["mask_image"] = np.zeros_like(pixels)
        mask[h // 3 : h // 2, w // 3 : w // 2] = 255
    return images


def scale_of(spec: ModelSpec) -> int:
    offered = spec.param("scale")
    return int(offered.default or 1) if offered else spec.scale or 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 40), (130, 61), (64, 64)])
def test_size_of_the_answer(spec: ModelSpec, backend: Backend, height: int, width: int) -> None:
    pixels = photo(height, width)
    before = pixels.copy()
    (answer,) = backend.run([job(spec, pixels, images=images_of(spec, pixels))])
    scale = scale_of(spec)
    assert answer.pixels.shape == (height * scale, width * scale, 3)
    assert answer.pixels.dtype == np.uint8
    assert answer.pixels.flags.c_contiguous
    assert np.array_equal(pixels, before), "the input was overwritten"


def test_equal_jobs_get_equal_answers_of_their_own(spec: ModelSpec, backend: Backend) -> None:
    one, two = (photo(40, 50, seed) for seed in (1, 2))
    jobs = [job(spec, pixels, images=images_of(spec, pixels)) for pixels in (one, two, one)]
    first, other, again = backend.run(jobs)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    (alone,) = backend.run([jobs[1]])
    assert np.array_equal(other.pixels, alone.pixels)
    kept = first.pixels.copy()
    backend.run([jobs[1]])
    assert np.array_equal(first.pixels, kept), "a later run changed an earlier answer"


def test_a_batch_gets_what_each_gets_alone(spec: ModelSpec, backend: Backend) -> None:
    pictures = [photo(33, 47, seed) for seed in range(5)]
    jobs = [job(spec, pixels, images=images_of(spec, pixels)) for pixels in pictures]
    if backend.batching is not None:
        assert len({backend.batching.key(one) for one in jobs}) == 1
        assert backend.batching.key(job(spec, photo(33, 48))) != backend.batching.key(jobs[0])
    together = backend.run(jobs)
    for one, answer in zip(jobs, together, strict=True):
        (alone,) = backend.run([one])
        assert np.array_equal(answer.pixels, alone.pixels), "its neighbours changed it"


def test_a_smaller_tile_is_the_same_picture(spec: ModelSpec, backend: Backend) -> None:
    pixels = photo(200, 180)
    whole = job(spec, pixels, images=images_of(spec, pixels))
    (expected,) = backend.run([whole])
    for shrink in range(1, backend.shrinks + 1):
        (answer,) = backend.run([dataclasses.replace(whole, shrink=shrink)])
        assert answer.size == expected.size
        assert psnr(answer.pixels, expected.pixels) > 40


def test_progress_and_cancel(spec: ModelSpec, backend: Backend) -> None:
    seen: list[tuple[int, int]] = []
    pixels = photo(150, 180)
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    backend.run([job(spec, pixels, images=images_of(spec, pixels), hooks=hooks)])
    assert seen
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    stopped = Hooks()
    stopped.cancel()
    with pytest.raises(JobCancelledError):
        backend.run([job(spec, pixels, images=images_of(spec, pixels), hooks=stopped)])


def test_precision_is_told(backend: Backend) -> None:
    assert backend.precision.split()[0] in {"f32", "bf16", "none"}
    assert "(" in backend.precision
