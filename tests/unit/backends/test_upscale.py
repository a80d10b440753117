"""The embedded super-resolution networks: tiles, scales, precision."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from calotype.backends.tiled import MAX_NETWORKS, TiledBackend
from calotype.domain.hooks import Hooks
from calotype.domain.image import Pixels
from models import CATALOG, job, load, photo, psnr


def crop(shared: Path, top: int, left: int, side: int) -> Pixels:
    picture = Pillow.open(shared / "data/eval/Kodak24/05.png").convert("RGB")
    return np.ascontiguousarray(np.asarray(picture)[top : top + side, left : left + side])


def run(alias: str, pixels: Pixels, cache: Path, *, tile: int, whole: bool = False) -> Pixels:
    """Run with a tile; whole means that nothing is shared, for there is nothing to share."""
    spec = CATALOG.get(alias)
    spec = dataclasses.replace(spec, tile=tile, revision=f"{spec.revision}-{tile}")
    if whole:
        assert len(pixels) == tile
    (answer,) = load(spec, cache).run([job(spec, pixels)])
    return answer.pixels


def test_upscale_fast_tiled_equals_untiled(compiled_dir: Path) -> None:
    pixels = photo(512, 512)
    tiled = run("upscale-fast", pixels, compiled_dir, tile=256)
    untiled = run("upscale-fast", pixels, compiled_dir, tile=512, whole=True)
    assert np.abs(tiled.astype(int) - untiled).max() <= 1


def test_a_picture_takes_a_larger_tile_where_less_is_computed(compiled_dir: Path) -> None:
    spec, pixels = CATALOG.get("upscale-fast"), photo(300, 300)
    backend = load(spec, compiled_dir)
    (answer,) = backend.run([job(spec, pixels)])
    assert isinstance(backend, TiledBackend)
    assert [network.grid.tile_px for network in backend.networks] == [256, 320]
    inside = slice(100, -100)  # the picture ends elsewhere in the tile
    untiled = run("upscale-fast", pixels, compiled_dir, tile=300, whole=True)
    assert np.abs(answer.pixels.astype(int) - untiled)[inside, inside].max() <= 1


def test_no_more_networks_are_kept_than_memory_is_meant_for(compiled_dir: Path) -> None:
    spec = CATALOG.get("upscale-fast")
    backend = load(spec, compiled_dir)
    assert isinstance(backend, TiledBackend)
    for side in (100, 150, 250, 270, 300, 150):
        backend.run([job(spec, photo(side, side))])
        assert len(backend.networks) <= MAX_NETWORKS
    assert [network.grid.tile_px for network in backend.networks] == [288, 320, 192]


def test_upscale_tiled_is_near_untiled(shared: Path, compiled_dir: Path) -> None:
    pixels = crop(shared, 64, 200, 336)
    tiled = run("upscale", pixels, compiled_dir, tile=256)
    untiled = run("upscale", pixels, compiled_dir, tile=336, whole=True)
    difference = np.abs(tiled.astype(int) - untiled)
    assert difference.max() > 0, "not tiled at all"
    assert np.percentile(difference, 99.9) <= 3


def test_bf16_is_near_f32(shared: Path, compiled_dir: Path) -> None:
    spec = CATALOG.get("upscale")
    pixels = crop(shared, 100, 300, 128)
    exact = load(spec, compiled_dir, "f32").run([job(spec, pixels)])[0].pixels
    backend = load(spec, compiled_dir, "bf16")
    if not backend.precision.startswith("bf16"):
        pytest.skip(f"this processor has no bf16: {backend.precision}")
    assert psnr(backend.run([job(spec, pixels)])[0].pixels, exact) >= 50


def test_bigger_is_the_same_picture(shared: Path, compiled_dir: Path) -> None:
    """Shrunk again, the result is the input: no shift, no turn, right colours."""
    pixels = crop(shared, 100, 300, 120)
    for alias in ("upscale", "upscale-anime", "upscale-fast"):
        spec = CATALOG.get(alias)
        (answer,) = load(spec, compiled_dir).run([job(spec, pixels)])
        small = Pillow.fromarray(answer.pixels).resize((120, 120), Pillow.Resampling.BOX)
        assert psnr(np.asarray(small), pixels) > 22, alias


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_scale_has_its_effect(scale: int, compiled_dir: Path) -> None:
    spec = CATALOG.get("upscale-fast")
    pixels = photo(70, 90)
    (answer,) = load(spec, compiled_dir).run([job(spec, pixels, {"scale": scale})])
    assert answer.pixels.shape == (70 * scale, 90 * scale, 3)
    plain = Pillow.fromarray(pixels).resize((90 * scale, 70 * scale), Pillow.Resampling.BICUBIC)
    assert psnr(answer.pixels, np.asarray(plain)) > 20


@pytest.mark.parametrize(
    ("height", "width", "tile"), [(128, 20, 128), (129, 1, 192), (192, 192, 192), (193, 9, 256)]
)
def test_a_small_picture_takes_a_small_tile(
    compiled_dir: Path, height: int, width: int, tile: int
) -> None:
    """One tile all the same, so nothing is blended and less is computed."""
    spec = CATALOG.get("upscale-fast")
    backend = load(spec, compiled_dir)
    steps: list[int] = []
    hooks = Hooks(lambda _, total: steps.append(total))
    (answer,) = backend.run([job(spec, photo(height, width), hooks=hooks)])
    assert set(steps) == {1}
    assert answer.pixels.shape == (height * 4, width * 4, 3)
    assert isinstance(backend, TiledBackend)
    assert tile in {network.grid.tile_px for network in backend.networks}
