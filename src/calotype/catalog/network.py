"""What a checkpoint is, told by the names of its tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from calotype.catalog.diffusion import MASK_BLUR
from calotype.catalog.tensors import tensor_names
from calotype.errors import InvalidCatalogError

BACKEND = "spandrel"

_OTHERS: Mapping[str, tuple[str, ...]] = {
    "an adapter (LoRA), which belongs into the folder of adapters, where pull --lora puts it": (
        "lora_unet_",
        "lora_te",
        "*.lora_A.",
        "*.lora_B.",
        "*.lora_down.",
        "*.lora_up.",
        "*.lora.down.",
        "*.lora.up.",
    ),
    "a whole diffusion model in one file; a pipeline of diffusers can be served, which"
    " from_single_file of that library makes of it": (
        "model.diffusion_model.",
        "double_blocks.",
        "joint_blocks.",
        "first_stage_model.",
    ),
    "a part of a diffusion model": ("down_blocks.", "transformer_blocks.", "controlnet_"),
    "an autoencoder of a diffusion model": ("encoder.down.", "encoder.down_blocks."),
    "an encoder of text": (
        "text_model.",
        "cond_stage_model.",
        "encoder.block.0.layer.",
        "encoder.layer.0.attention.",
        "bert.",
        "model.embed_tokens.",
        "model.layers.",
    ),
}
"""What is no network of pictures, and how the names of its tensors begin, or after a star what is
in them."""

_INPAINTING = (frozenset({"convl2l", "bn_l"}), frozenset({"first_stage", "resample_filter"}))
"""LaMa and MAT. Source: ``detect`` of spandrel's architectures of these names."""
_COLORIZATION = (frozenset({"refine_net", "color_decoder"}),)
_RESTORATION = (
    frozenset({"intro", "ending"}),  # NAFNet
    frozenset({"m_head", "m_tail"}),  # SCUNet, DRUNet
    frozenset({"refinement", "output"}),  # Restormer
)
_SUPER_RESOLUTION = tuple(
    frozenset({part})
    for part in ("upsample", "upsampler", "upconv1", "conv_up1", "conv_before_upsample", "HRconv")
)
_TASKS: Mapping[str, tuple[frozenset[str], ...]] = {
    "inpainting": _INPAINTING,
    "colorization": _COLORIZATION,
    "restoration": _RESTORATION,
    "super-resolution": _SUPER_RESOLUTION,
}
"""Tasks by parts of names that are all there."""


def describe_checkpoint(path: Path) -> dict[str, object]:
    """Say of a checkpoint what a TOML file beside it would.

    Raises:
        InvalidCatalogError: it is clearly something else than a network of pictures.
    """
    names = tensor_names(path)
    for kind, marks in _OTHERS.items():
        if any(_has(names, mark) for mark in marks):
            raise InvalidCatalogError(f"it is {kind}")
    parts = {part for name in names for part in name.split(".")}
    fitting = (task for task, kinds in _TASKS.items() if any(kind <= parts for kind in kinds))
    described: dict[str, object] = {"backend": BACKEND}
    if (task := next(fitting, None)) is not None:
        described["task"] = task
    if task == "inpainting":
        described["parameters"] = {"mask_image": {"type": "image"}, "mask_blur": MASK_BLUR}
    return described


def _has(names: Iterable[str], mark: str) -> bool:
    """Tell whether a name begins with a mark, or holds it."""
    if mark.startswith("*"):
        return any(mark[1:] in name for name in names)
    return any(name.startswith(mark) for name in names)
