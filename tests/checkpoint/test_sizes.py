"""Sizes, channels, what runs whole and what in tiles, and what happens where OpenVINO can't."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from calotype.backends.base import Backend, Machine
from calotype.backends.checkpoint import compute
from calotype.backends.checkpoint.window import SizeRule
from calotype.backends.spandrel import SpandrelBackend
from calotype.backends.spandrel import load as load_checkpoint
from calotype.backends.traced import trace
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Pixels, Size
from calotype.domain.model import ModelSpec
from calotype.errors import PayloadTooLargeError
from checkpoints import direct, make, save, spec_of
from models import job, load, photo


def backend_of(spec: ModelSpec, cache: Path) -> SpandrelBackend:
    backend = load(spec, cache)
    assert isinstance(backend, SpandrelBackend)
    return backend


def run(backend: Backend, spec: ModelSpec, pixels: Pixels, hooks: Hooks | None = None) -> Pixels:
    (answer,) = backend.run([job(spec, pixels, hooks=hooks)])
    return answer.pixels


def test_a_size_rule() -> None:
    rule = SizeRule(minimum_px=40, multiple_px=12, is_square=False)
    wide = Size(height_px=5, width_px=50)
    assert rule.fitting(wide) == Size(height_px=48, width_px=60)
    assert rule.fitting(wide, 8) == Size(height_px=48, width_px=72)
    square = dataclasses.replace(rule, is_square=True)
    assert square.fitting(wide) == Size(height_px=60, width_px=60)


def test_architecture_chooses_the_tile_and_toml_beats_it(
    tmp_path: Path, compiled_dir: Path
) -> None:
    file = save("dncnn", tmp_path / "net.pth")
    grid = backend_of(spec_of(file), compiled_dir).grid(256)
    assert (grid.tile_px, grid.overlap_px, grid.blend_px) == (256, 56, 16)
    for toml, expected in (("overlap = 8", (8, 8)), ("overlap = 30\nblend = 0", (30, 0))):
        grid = backend_of(spec_of(file, f"tile = 64\n{toml}\n"), compiled_dir).grid(64)
        assert (grid.overlap_px, grid.blend_px) == expected


@pytest.mark.parametrize("name", ["fdncnn", "dncnn"])
def test_colour_survives(name: str, tmp_path: Path, compiled_dir: Path) -> None:
    """A gray network gets each channel by itself."""
    spec = spec_of(save(name, tmp_path / "net.pth"), "tile = 64\n")
    backend = backend_of(spec, compiled_dir)
    pixels = photo(64, 64)
    found = direct(dict(make(name).state_dict()))
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    parts = torch.chunk(planes, 3 // found.input_channels, dim=1)
    expected = torch.cat([found(part) for part in parts], dim=1)[0].permute(1, 2, 0).numpy()
    assert np.abs(run(backend, spec, pixels) - expected * 255).max() <= 0.6
    assert backend.precision == "f32 (as set)"


def test_networks_that_look_at_everything_run_whole(tmp_path: Path, compiled_dir: Path) -> None:
    spec = spec_of(save("swinir", tmp_path / "net.pth"))
    backend = backend_of(spec, compiled_dir)
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    assert run(backend, spec, photo(70, 90), hooks).shape == (140, 180, 3)
    assert seen == [(0, 1), (1, 1)]
    assert hooks.notes == ()


def test_too_large_to_run_whole_is_noted(tmp_path: Path, compiled_dir: Path) -> None:
    toml = f"tile = 64\noptions.whole_pixels = {128 * 128}\n"
    spec = spec_of(save("swinir", tmp_path / "net.pth"), toml)
    backend = backend_of(spec, compiled_dir)
    hooks = Hooks()
    assert run(backend, spec, photo(70, 150), hooks).shape == (140, 300, 3)
    (note,) = hooks.notes
    assert note.startswith("tiles; the picture is too large to be seen whole: tiles of 64x64")


def test_a_result_over_the_limit_is_refused(tmp_path: Path) -> None:
    spec = spec_of(save("esrgan", tmp_path / "net.pth"), "tile = 64\n")
    machine = Machine(precision="f32", max_output_pixels=16_000)
    backend = load_checkpoint(spec, lambda _: Path(spec.files[0].path).read_bytes(), machine)
    with pytest.raises(PayloadTooLargeError, match="the result would be 404x40, 16160 pixels"):
        run(backend, spec, photo(10, 101))


def test_only_a_few_sizes_stay_compiled(tmp_path: Path, compiled_dir: Path) -> None:
    spec = spec_of(save("swinir", tmp_path / "net.pth"))
    backend = backend_of(spec, compiled_dir)
    for side in (64, 128, 192, 256, 64):
        assert run(backend, spec, photo(side, 20)).shape == (2 * side, 40, 3)
    assert len(backend._compute._requests) == compute.COMPILED


def test_cancelled_between_tiles(tmp_path: Path, compiled_dir: Path) -> None:
    spec = spec_of(save("dncnn", tmp_path / "net.pth"), "tile = 64\noverlap = 8\n")
    backend = backend_of(spec, compiled_dir)

    def stop(done: int, _: int) -> None:
        if done == 2:
            hooks.cancel()

    hooks = Hooks(stop)
    with pytest.raises(JobCancelledError, match="after 3 of"):
        run(backend, spec, photo(200, 200), hooks)


def test_large_holes_are_repainted_smaller(tmp_path: Path, compiled_dir: Path) -> None:
    toml = f"options.whole_pixels = {64 * 64}\n"
    spec = spec_of(save("lama", tmp_path / "net.safetensors"), toml)
    backend = backend_of(spec, compiled_dir)
    assert backend.shrinks > 0
    pixels, hooks = photo(90, 120), Hooks()
    mask = np.zeros_like(pixels)
    mask[20:50, 30:60] = 255
    (answer,) = backend.run([job(spec, pixels, images={"mask_image": mask}, hooks=hooks)])
    assert answer.size == Size(height_px=45, width_px=60)
    assert hooks.notes == ("size; 120x90 was repainted at 60x45, then enlarged",)


def test_what_cannot_be_converted_runs_on_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such operation")

    file = save("nafnet", tmp_path / "net.pth")
    spec, pixels = spec_of(file, "tile = 64\n"), photo(64, 64)
    expected = run(load(spec, None), spec, pixels)
    monkeypatch.setattr(compute, "trace", refuse)
    with caplog.at_level(logging.WARNING):
        backend = load(spec, tmp_path / "cache")
    assert "net runs on PyTorch, which is slower: it can't be converted" in caplog.text
    assert backend.precision.startswith("f32 (PyTorch: it can't be converted")
    assert "no such operation" in backend.precision
    assert np.abs(run(backend, spec, pixels).astype(int) - expected).max() <= 1
    assert not list((tmp_path / "cache").rglob("*.trying"))


def test_what_computes_something_else_runs_on_pytorch_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't kept compiled: the next start would take it for right."""

    def halved(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> object:
        return trace(torch.nn.Sequential(module, torch.nn.Hardtanh(0, 0.3)), example)

    monkeypatch.setattr(compute, "trace", halved)
    spec = spec_of(save("nafnet", tmp_path / "net.pth"), "tile = 64\n")
    for _ in range(2):
        assert "(PyTorch: it can't be converted: ValueError('differs by" in (
            load(spec, tmp_path / "cache").precision
        )


def test_a_conversion_that_ended_its_process_twice_is_not_tried_again(tmp_path: Path) -> None:
    spec, cache = spec_of(save("nafnet", tmp_path / "net.pth"), "tile = 64\n"), tmp_path / "cache"
    load(spec, cache)
    backend = backend_of(spec, cache)
    mark = backend._compute._attempt._mark
    assert mark is not None
    mark.write_text("..")
    assert "converting it ended the process each time" in load(spec, cache).precision


def test_bf16_where_it_is_set(tmp_path: Path) -> None:
    """On PyTorch: where OpenVINO runs it, the engine's own tests tell."""
    spec = spec_of(save("mat", tmp_path / "net.pth"))
    machine = Machine(precision="bf16")
    backend = load_checkpoint(spec, lambda _: Path(spec.files[0].path).read_bytes(), machine)
    assert backend.precision == "f32 (PyTorch: it draws at random)", "its network has no bf16"
