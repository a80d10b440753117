"""The CUDA path, as far as a processor can run it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import load
from calotype.backends.diffusion.compiled import KeptKernels, compile_blocks
from calotype.domain.image import Pixels
from calotype.errors import InvalidSettingError
from diffusion.conftest import Family
from models import job, psnr


def is_compiled(network: torch.nn.Module) -> bool:
    """Tell whether some block of a network is compiled."""
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in network.modules())


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_compiled_blocks_compute_the_same(families: dict[str, Family], pixels: Pixels) -> None:
    family = families["pix2pix"]
    options = Diffusion(engine="torch", device="cpu")
    backend = load(family.spec, lambda _: b"", Machine(precision="f32", diffusion=options))
    wanted = job(family.spec, pixels, family.parameters)
    (before,) = backend.run([wanted])
    network: Any = backend._pipe.unet
    assert not is_compiled(network)
    assert compile_blocks(network, backend="eager")
    (after,) = backend.run([wanted])
    assert is_compiled(network)
    assert np.abs(before.pixels.astype(int) - after.pixels).max() <= 1


def test_a_network_without_repeated_blocks_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        block_out_channels=(4, 8),
        norm_num_groups=2,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    assert not compile_blocks(network, backend="eager")
    assert "UNet2DModel is not compiled" in caplog.text


def test_damaged_kernels_are_as_good_as_none(tmp_path: Path) -> None:
    kept = KeptKernels(tmp_path, "acme/edit")
    assert not kept.load()
    kept.save()
    for file in tmp_path.glob("*.kernels"):
        file.write_bytes(b"nonsense")
        assert not kept.load()
    assert not KeptKernels(None, "acme/edit").load()


def test_a_device_that_is_not_there_is_said(families: dict[str, Family]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    machine = Machine(diffusion=Diffusion(device="cuda"))
    with pytest.raises(InvalidSettingError, match="PyTorch finds no CUDA device here"):
        load(families["pix2pix"].spec, lambda _: b"", machine)


@needs_cuda
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_on_cuda(offload: Any, families: dict[str, Family], pixels: Pixels) -> None:
    family = families["pix2pix"]
    machine = Machine(precision="f32", diffusion=Diffusion(device="cuda", offload=offload))
    backend = load(family.spec, lambda _: b"", machine)
    (found,) = backend.run([job(family.spec, pixels, family.parameters)])
    assert backend.device == "gpu"
    assert psnr(found.pixels, family.direct(pixels)) > 40


@needs_cuda
def test_compiled_on_cuda(families: dict[str, Family], pixels: Pixels, tmp_path: Path) -> None:
    family = families["pix2pix"]
    machine = Machine(cache_dir=tmp_path, diffusion=Diffusion(device="cuda", compile=True))
    backend = load(family.spec, lambda _: b"", machine)
    assert is_compiled(backend._pipe.unet)
    assert list(tmp_path.rglob("*.kernels"))
    (found,) = backend.run([job(family.spec, pixels, family.parameters)])
    assert psnr(found.pixels, family.direct(pixels)) > 20
