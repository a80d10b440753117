"""Layers said in another way that costs less, while a network is converted.

Each computes the same sums as the layer it stands for; only the order of the roundings differs.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from calotype.backends.diffusion.forward import swapped

VERSION = 1
"""Part of the name under which converted networks are kept."""

KERNEL = (3, 3)


@contextlib.contextmanager
def rewritten(module: nn.Module) -> Iterator[None]:
    """Put cheaper forms in the place of some layers for a while."""
    with contextlib.ExitStack() as stack:
        for layer in module.modules():
            cheaper = _REWRITES.get(type(layer).__name__)
            if cheaper is not None and (forward := cheaper(layer)) is not None:
                stack.enter_context(swapped(layer, forward))
        yield


def _upsample(layer: Any) -> Callable[..., Tensor] | None:
    """Merge doubling and the 3 x 3 convolution after it.

    A pixel repeated twice each way is seen by a 3 x 3 kernel as at most 2 x 2 different pixels, so
    each of the four results beside it is a 2 x 2 convolution of the small picture, whose kernel
    sums the weights that meet the same pixel: 4/9 of the products.
    """
    conv = getattr(layer, layer.name if layer.name == "conv" else "Conv2d_0", None)
    plain = layer.use_conv and layer.interpolate and not layer.use_conv_transpose
    if not plain or layer.norm is not None or not isinstance(conv, nn.Conv2d):
        return None
    if conv.kernel_size != KERNEL or conv.padding != (1, 1) or conv.groups != 1:
        return None
    original = layer.forward

    def forward(
        hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if output_size is not None:
            return original(hidden_states, output_size, *args, **kwargs)  # type: ignore[no-any-return]
        return _doubled(hidden_states, conv.weight, conv.bias)

    return forward


def _doubled(small: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``conv2d(repeat(small), weight)``; (n, c, h, w) -> (n, d, 2h, 2w)."""
    # Rows that the upper (lower) result sees: the one before and its own (its own and the next).
    spans = (((0,), (1, 2)), ((0, 1), (2,)))
    kernels = [
        torch.stack([_summed(weight, row, column) for row in rows for column in columns], dim=-1)
        for rows in spans
        for columns in spans
    ]  # 4 of (d, c, 4)
    merged = torch.cat(kernels).reshape(-1, weight.shape[1], 2, 2)  # (4d, c, 2, 2)
    biases = None if bias is None else bias.repeat(4)
    grown = functional.conv2d(small, merged, biases, padding=1)  # (n, 4d, h + 1, w + 1)
    d = weight.shape[0]
    quarters = [
        grown[:, :d, :-1, :-1],
        grown[:, d : 2 * d, :-1, 1:],
        grown[:, 2 * d : 3 * d, 1:, :-1],
        grown[:, 3 * d :, 1:, 1:],
    ]
    # (n, d, 4, h, w) -> (n, 4d, h, w) -> (n, d, 2h, 2w)
    return functional.pixel_shuffle(torch.stack(quarters, dim=2).flatten(1, 2), 2)


def _summed(weight: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """Sum the taps of a kernel that meet the same pixel; (d, c, 3, 3) -> (d, c)."""
    return weight[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].sum(dim=(2, 3))


def _geglu(layer: Any) -> Callable[..., Tensor] | None:
    """Compute the two halves apart, so that nothing has to be split afterwards."""
    weight, bias = layer.proj.weight, layer.proj.bias
    half = weight.shape[0] // 2

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        del args, kwargs
        first, gate = (
            functional.linear(hidden_states, weight[part], None if bias is None else bias[part])
            for part in (slice(None, half), slice(half, None))
        )
        return first * layer.gelu(gate)  # type: ignore[no-any-return]

    return forward


_REWRITES: dict[str, Callable[[Any], Callable[..., Tensor] | None]] = {
    "Upsample2D": _upsample,
    "GEGLU": _geglu,
}
