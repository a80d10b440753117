"""Public checkpoints give what spandrel itself gives."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calotype.backends.base import Machine
from calotype.backends.checkpoint.compute import converted
from calotype.backends.checkpoint.descriptor import find_network
from calotype.backends.checkpoint.picture import PictureNetwork
from calotype.backends.checkpoint.state import read_state
from calotype.backends.openvino import Engine
from calotype.backends.spandrel import SpandrelBackend
from calotype.domain.image import Pixels, Size
from checkpoints import direct, spec_of
from models import job, load, photo

Reference = Callable[[Pixels], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]

FILES = ("dncnn_25.pth", "CRAFT_team34.pth", "DCTLSA_X4.pt")
FLOAT_TOLERANCE = 1e-3
TILE_PX, OVERLAP_PX = 64, 16


@pytest.fixture(params=FILES, scope="module")
def file(
    request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Each checkpoint, with a TOML file beside it that makes its tiles small."""
    copy = tmp_path_factory.mktemp("checkpoint") / str(request.param)
    copy.write_bytes((weights / copy.name).read_bytes())
    copy.with_suffix(".toml").write_text(f"tile = {TILE_PX}\noverlap = {OVERLAP_PX}\n")
    return copy


@pytest.fixture
def reference(file: Path) -> Reference:
    """What spandrel makes of a picture: (h, w, 3) uint8 -> (h * s, w * s, 3) float, 0..1."""
    found = direct(torch.load(io.BytesIO(file.read_bytes()), "cpu", weights_only=True))

    def run(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
        gray = found.input_channels == 1
        parts = torch.chunk(planes, 3, dim=1) if gray else [planes]
        made = torch.cat([found(part) for part in parts], dim=1)[0].permute(1, 2, 0)
        return np.asarray(made, np.float32)

    return run


def test_floats_are_those_of_spandrel(file: Path, reference: Reference) -> None:
    network = PictureNetwork(find_network(read_state(file.read_bytes(), file.name), file.name))
    model = converted(network, Size(height_px=TILE_PX, width_px=TILE_PX))
    compiled = Engine(Machine(precision="f32")).compile_for_now(file.name, model)
    pixels = photo(TILE_PX, TILE_PX)
    (made,) = compiled([(pixels / 255).astype(np.float32).transpose(2, 0, 1)[None]]).values()
    assert np.abs(made[0].transpose(1, 2, 0) - reference(pixels)).max() <= FLOAT_TOLERANCE


def test_a_picture_of_the_tiles_size(file: Path, reference: Reference, compiled_dir: Path) -> None:
    spec = spec_of(file)
    backend = load(spec, compiled_dir)
    assert backend.precision == "f32 (as set)", "it runs on OpenVINO"
    pixels = photo(TILE_PX, TILE_PX)
    (answer,) = backend.run([job(spec, pixels)])
    assert np.abs(answer.pixels - reference(pixels) * 255).max() <= 0.5 + 255 * FLOAT_TOLERANCE


def test_tiles_are_those_of_spandrel(file: Path, reference: Reference, compiled_dir: Path) -> None:
    """Where only one tile counts, the picture is what spandrel makes of that tile."""
    spec = spec_of(file)
    backend = load(spec, compiled_dir)
    assert isinstance(backend, SpandrelBackend)
    pixels = photo(TILE_PX, 2 * TILE_PX - OVERLAP_PX)
    (answer,) = backend.run([job(spec, pixels)])
    scale, half = backend.scale, (TILE_PX - OVERLAP_PX) * backend.scale
    left, right = reference(pixels[:, :TILE_PX]), reference(pixels[:, -TILE_PX:])
    assert answer.pixels.shape[1] == pixels.shape[1] * scale
    for found, expected in (
        (answer.pixels[:, :half], left[:, :half]),
        (answer.pixels[:, -half:], right[:, -half:]),
    ):
        assert np.abs(found - expected * 255).max() <= 0.5 + 255 * FLOAT_TOLERANCE


def test_a_convolutional_network_shows_no_tiles(
    weights: Path, tmp_path: Path, compiled_dir: Path
) -> None:
    """Tiles share as much as the network reaches, as the table says, but for the blend."""
    file = tmp_path / "dncnn_25.pth"
    file.write_bytes((weights / file.name).read_bytes())
    spec = spec_of(file, "tile = 128\n")
    pixels = photo(256, 256)
    (tiled,) = load(spec, compiled_dir).run([job(spec, pixels)])
    whole = spec_of(file, "tile = 256\n")
    (expected,) = load(whole, compiled_dir).run([job(whole, pixels)])
    assert np.abs(tiled.pixels.astype(int) - expected.pixels).max() <= 1


def test_a_public_ncnn_checkpoint_equals_ncnn(weights: Path, compiled_dir: Path) -> None:
    ncnn = pytest.importorskip("ncnn")
    file = weights / "RealESRGAN_General_x4_v3.param"
    pixels = photo(TILE_PX, TILE_PX)
    spec = replace(spec_of(file), revision="small", tile=TILE_PX, overlap=OVERLAP_PX, blend=0)
    (answer,) = load(spec, compiled_dir).run([job(spec, pixels)])
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(file))
    net.load_model(str(file.with_suffix(".bin")))
    extractor = net.create_extractor()
    planes = np.ascontiguousarray(pixels.astype(np.float32).transpose(2, 0, 1) / 255)
    extractor.input(net.input_names()[0], ncnn.Mat(planes))
    _, made = extractor.extract(net.output_names()[0])
    expected = np.clip(np.array(made).transpose(1, 2, 0), 0, 1) * 255
    assert np.abs(answer.pixels - expected).max() <= 0.5 + 255 * FLOAT_TOLERANCE
