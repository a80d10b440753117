"""Layers said in another way that costs less, while a network is converted.

Each computes the same sums as the layer it stands for; only the order of the roundings differs.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from calotype.backends.diffusion.forward import Forward, swapped

VERSION = 2
"""Part of the name under which converted networks are kept."""

MERGED, VALUE, GATE = "merged", "value", "gate"
"""Names of the layers that stand for others."""
KERNEL = (3, 3)

Parts = dict[str, nn.Module]


@contextlib.contextmanager
def rewritten(module: nn.Module) -> Iterator[None]:
    """Put cheaper forms in the place of some layers for a while."""
    with contextlib.ExitStack() as stack:
        for layer in tuple(module.modules()):
            cheaper = _REWRITES.get(type(layer).__name__)
            if cheaper is None or (found := cheaper(layer)) is None:
                continue
            parts, forward = found
            for name, part in parts.items():
                layer.add_module(name, part)
                stack.callback(layer.__delattr__, name)
            stack.enter_context(swapped(layer, forward))
        yield


def translated(name: str, delta: Tensor) -> dict[str, Tensor]:
    """Say for the layers that may stand for others what is added to one weight of these.

    Args:
        name: of a weight of the original layer.
        delta: what is to be added to it.

    Returns:
        The same for the weights of whatever may stand for it; more names than there are.
    """
    found: dict[str, Tensor] = {}
    stem, _, layer = name.removesuffix(".weight").rpartition(".")
    if layer == "conv" and delta.shape[2:] == KERNEL:
        found[f"{stem}.{MERGED}.weight"] = merged(delta)
    if layer == "proj" and not delta.shape[0] % 2:
        value, gate = delta.chunk(2)
        found |= {f"{stem}.{VALUE}.weight": value, f"{stem}.{GATE}.weight": gate}
    return found


def merged(kernel: Tensor) -> Tensor:
    """Merge a doubling and the 3 x 3 convolution after it.

    A pixel repeated twice each way is seen by a 3 x 3 kernel as at most 2 x 2 different pixels, so
    each of the four results beside it is a 2 x 2 convolution of the small picture, whose kernel
    sums the weights that meet the same pixel: 4/9 of the products.

    Args:
        kernel: (d, c, 3, 3).

    Returns:
        (4d, c, 2, 2): the results at the upper left, upper right, lower left and lower right.
    """
    # Rows that the upper (lower) result sees: the one before and its own (its own and the next).
    spans = ((slice(0, 1), slice(1, 3)), (slice(0, 2), slice(2, 3)))
    quarters = [
        torch.stack([kernel[:, :, r, c].sum(dim=(2, 3)) for r in rows for c in columns], dim=-1)
        for rows in spans
        for columns in spans
    ]  # 4 of (d, c, 4)
    return torch.cat(quarters).reshape(-1, kernel.shape[1], 2, 2)


def _upsample(layer: Any) -> tuple[Parts, Forward] | None:
    """Rewrite a doubling with a convolution; diffusers' Upsample2D."""
    conv = getattr(layer, "conv", None) if layer.name == "conv" else None
    plain = layer.use_conv and layer.interpolate and not layer.use_conv_transpose
    if not plain or layer.norm is not None or not isinstance(conv, nn.Conv2d):
        return None
    if conv.kernel_size != KERNEL or conv.padding != (1, 1) or conv.groups != 1:
        return None
    original, d = layer.forward, conv.out_channels
    joint = nn.Conv2d(conv.in_channels, 4 * d, 2, padding=1, bias=conv.bias is not None)
    with torch.no_grad():
        joint.weight.copy_(merged(conv.weight))
        if conv.bias is not None and joint.bias is not None:
            joint.bias.copy_(conv.bias.repeat(4))

    def forward(hidden: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        if output_size is not None:
            answer: Tensor = original(hidden, output_size, *args, **kwargs)
            return answer
        grown = joint(hidden)  # (n, 4d, h + 1, w + 1)
        quarters = [
            grown[:, :d, :-1, :-1],
            grown[:, d : 2 * d, :-1, 1:],
            grown[:, 2 * d : 3 * d, 1:, :-1],
            grown[:, 3 * d :, 1:, 1:],
        ]
        # (n, d, 4, h, w) -> (n, 4d, h, w) -> (n, d, 2h, 2w)
        return functional.pixel_shuffle(torch.stack(quarters, dim=2).flatten(1, 2), 2)

    return {MERGED: joint}, forward


def _geglu(layer: Any) -> tuple[Parts, Forward] | None:
    """Compute value and gate apart, so that nothing has to be split; diffusers' GEGLU."""
    proj = layer.proj
    halves = [
        nn.Linear(proj.in_features, proj.out_features // 2, proj.bias is not None) for _ in range(2)
    ]
    with torch.no_grad():
        for half, weight in zip(halves, proj.weight.chunk(2), strict=True):
            half.weight.copy_(weight)
        if proj.bias is not None:
            for half, bias in zip(halves, proj.bias.chunk(2), strict=True):
                half.bias.copy_(bias)
    value, gate = halves

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        del args, kwargs
        product: Tensor = value(hidden) * layer.gelu(gate(hidden))
        return product

    return {VALUE: value, GATE: gate}, forward


_REWRITES: dict[str, Callable[[Any], tuple[Parts, Forward] | None]] = {
    "Upsample2D": _upsample,
    "GEGLU": _geglu,
}
