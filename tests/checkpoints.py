"""Networks of random weights, as small as their architectures allow, saved as people save them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("spandrel", reason="needs the extra torch")
pytest.importorskip("spandrel_extra_arches", reason="needs further architectures")

import calotype.backends.checkpoint.library  # noqa: F401, I001  imports spandrel quietly
import spandrel_extra_arches
import torch
from safetensors.torch import save_file
from spandrel import MAIN_REGISTRY, ModelBase, ModelLoader
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.LaMa import LaMa
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SwinIR import SwinIR
from spandrel_extra_arches.architectures.DDColor import DDColor
from spandrel_extra_arches.architectures.MAT import MAT
from torch import nn

from calotype.catalog.scan import describe_file
from calotype.domain.model import ModelSpec


def _nafnet() -> nn.Module:
    module: nn.Module = NAFNet(
        img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]
    )
    for name, weight in module.named_parameters():
        if name.endswith(("beta", "gamma")):  # 0 at first, so that blocks would do nothing
            nn.init.normal_(weight, std=0.3)
    return module


def _swinir() -> nn.Module:
    module: nn.Module = SwinIR(
        upscale=2,
        img_size=64,
        window_size=8,
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 2],
        mlp_ratio=2,
        upsampler="pixelshuffledirect",
    )
    return module


def _ddcolor() -> nn.Module:
    module: nn.Module = DDColor(
        encoder_name="convnext-t",
        decoder_name="MultiScaleColorDecoder",
        num_input_channels=3,
        input_size=(256, 256),
        nf=512,
        num_output_channels=2,
        last_norm="Spectral",
        do_normalize=False,
        num_queries=100,
        num_scales=3,
        dec_layers=3,
    )
    return module


MAKERS: Mapping[str, Callable[[], nn.Module]] = {
    "esrgan": lambda: ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=2, scale=4),
    "nafnet": _nafnet,
    "scunet": lambda: SCUNet(in_nc=3, config=[1] * 7, dim=64),
    "swinir": _swinir,
    "dncnn": lambda: DnCNN(in_nc=3, out_nc=3, nc=8, nb=17, act_mode="R", mode="DnCNN"),
    "fdncnn": lambda: DnCNN(in_nc=2, out_nc=1, nc=8, nb=17, act_mode="R", mode="FDnCNN"),
    "rgba": lambda: ESRGAN(in_nc=4, out_nc=4, num_filters=8, num_blocks=1, scale=1),
    "lama": lambda: LaMa(in_nc=4, out_nc=3),
    "ddcolor": _ddcolor,
    "mat": MAT,
}
LARGE = frozenset({"lama", "ddcolor", "mat"})
"""They have one size only, so their files hold halves."""


def make(name: str) -> nn.Module:
    """Make a network; always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return MAKERS[name]().eval()


def save(name: str, file: Path) -> Path:
    """Save a network's weights, as the suffix says."""
    module = make(name)
    state = (module.half() if name in LARGE else module).state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save_file({key: value.contiguous().clone() for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    return file


def spec_of(file: Path, toml: str = "") -> ModelSpec:
    """Describe a checkpoint, with a TOML file beside it."""
    if toml:
        file.with_suffix(".toml").write_text(toml)
    return describe_file(file)


def direct(state: dict[str, object]) -> ModelBase:
    """Open weights with spandrel itself."""
    registry = MAIN_REGISTRY.copy()
    registry.add(*spandrel_extra_arches.EXTRA_REGISTRY)
    return ModelLoader(registry=registry).load_from_state_dict(state).eval()
