"""Colours for gray pictures: with the network that comes along, and with made ones."""

import dataclasses
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as op
from openvino import save_model

from calotype.backends.base import Machine
from calotype.backends.colorize import ColorizeBackend, load
from calotype.backends.lab import lightness_of
from calotype.domain.image import Image, Pixels
from calotype.domain.request import Job
from calotype.errors import MissingWeightsError
from models import CATALOG, photo
from models import load as load_real

SPEC = CATALOG.get("colorize")
GRAY = {"radius": 2, "epsilon": 5.0, "gain": 1.0, "cast": 1.0}


def gray_photo(h: int, w: int) -> Pixels:
    return np.repeat(photo(h, w)[:, :, :1], 3, axis=2)


def run(backend: ColorizeBackend, pixels: Pixels, strength: float = 1.0) -> Pixels:
    (answer,) = backend.run([Job(model=SPEC, image=Image(pixels), params={"strength": strength})])
    return answer.pixels


def made(folder: Path, a: float, b: float) -> ColorizeBackend:
    """A network that gives everything bright one colour, and everything dark its opposite."""
    lightness = op.parameter([-1, 1, -1, -1], np.float32)
    half = op.avg_pool(lightness, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)
    sign = op.sign(half)
    scale = op.constant(np.array([a, b], np.float32).reshape(1, 2, 1, 1))
    model = ov.Model([op.result(op.multiply(sign, scale))], [lightness], "made")
    save_model(model, folder / "made.xml", compress_to_fp16=False)
    spec = dataclasses.replace(SPEC, options={**SPEC.options, **GRAY}, revision=f"{a}{b}")
    files = {role: (folder / f"made.{role}").read_bytes() for role in ("xml", "bin")}
    return load(spec, files.__getitem__, Machine(precision="f32"))


def ab_of(pixels: Pixels) -> NDArray[np.float64]:
    """Return red minus green and yellow minus blue, (h, w) each."""
    r, g, b = np.moveaxis(pixels.astype(float), 2, 0)
    return np.stack([r - g, (r + g) / 2 - b])


@pytest.fixture(scope="module")
def real(compiled_dir: Path) -> ColorizeBackend:
    backend = load_real(SPEC, compiled_dir)
    assert isinstance(backend, ColorizeBackend)
    return backend


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 500), (700, 3), (97, 211), (600, 400)])
def test_lightness_stays(real: ColorizeBackend, height: int, width: int) -> None:
    pixels = gray_photo(height, width)
    coloured = run(real, pixels)
    assert coloured.shape == pixels.shape
    assert np.abs(lightness_of(coloured) - lightness_of(pixels)).max() <= 1


def test_there_are_colours_and_strength_scales_them(real: ColorizeBackend) -> None:
    pixels = gray_photo(200, 300)
    amounts = [np.abs(ab_of(run(real, pixels, s))).mean() for s in (0, 0.5, 1)]
    assert amounts[0] == 0
    assert amounts[2] > 3
    assert amounts[1] == pytest.approx(amounts[2] / 2, rel=0.15)


def test_without_strength_a_gray_picture_stays_as_it_is(real: ColorizeBackend) -> None:
    pixels = gray_photo(60, 90)
    assert np.array_equal(run(real, pixels, 0), pixels)


def test_the_colours_of_the_input_do_not_matter(real: ColorizeBackend) -> None:
    """Only lightness is seen: a colour picture gets the colours that its gray one gets."""
    pixels = photo(64, 80)
    lightness = lightness_of(pixels)
    coloured = run(real, pixels)
    assert np.abs(lightness_of(coloured) - lightness).max() <= 1
    assert not np.array_equal(coloured, pixels)


def test_a_mirrored_picture_gets_mirrored_colours(tmp_path: Path) -> None:
    pixels = gray_photo(128, 192)
    backend = made(tmp_path, 20, -30)
    mirrored = run(backend, np.ascontiguousarray(pixels[:, ::-1]))
    difference = mirrored[:, ::-1].astype(int) - run(backend, pixels)
    assert np.abs(difference).max() <= 2


def test_colours_end_where_things_do(tmp_path: Path) -> None:
    pixels = np.full((512, 768, 3), 60, np.uint8)
    pixels[:, 400:] = 200
    red, _ = ab_of(run(made(tmp_path, 30, 0), pixels))
    assert red[:, :396].max() < -10
    assert red[:, 404:].min() > 10


def test_gain_and_cast(tmp_path: Path) -> None:
    pixels = np.full((256, 256, 3), 60, np.uint8)
    pixels[:, 64:] = 200
    backend = made(tmp_path, 8, 0)
    spec = dataclasses.replace(SPEC, options={**SPEC.options, **GRAY, "gain": 1.5, "cast": 0.0})
    files = {role: (tmp_path / f"made.{role}").read_bytes() for role in ("xml", "bin")}
    other = load(spec, files.__getitem__, Machine(precision="f32"))
    before, after = (ab_of(run(b, pixels))[0] for b in (backend, other))
    assert before.mean() > 4
    assert abs(after.mean()) < abs(before.mean()) / 2, "the cast is gone"
    assert after.max() - after.min() > 1.2 * (before.max() - before.min())


def test_a_file_that_is_no_network() -> None:
    with pytest.raises(MissingWeightsError, match="not a readable OpenVINO network"):
        load(SPEC, lambda _: b"<net", Machine(precision="f32"))


def test_few_sizes_are_kept_compiled(tmp_path: Path) -> None:
    backend = made(tmp_path, 20, 0)
    for width in range(100, 900, 100):
        run(backend, gray_photo(100, width))
    assert len(backend.compiled) <= 4
