"""Turn an ncnn super-resolution network back into the PyTorch checkpoint that it came from.

Both architectures name their layers by place, and ncnn's file lists them in the order in which they
run, which is the order in which they are named.

Source: the architectures RRDBNet and SRVGGNetCompact of BasicSR and Real-ESRGAN, as spandrel
    recognises them by the names of the weights.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotype.backends.ncnn import Layer

BLOCK_CONVOLUTIONS = 15
"""Of one residual-in-residual block: three dense blocks of five."""
OUTER_CONVOLUTIONS = 6


def write_checkpoint(layers: Sequence[Layer], file: Path) -> None:
    """Write the weights as safetensors, under the names that spandrel opens."""
    from safetensors.numpy import save_file

    save_file(checkpoint(layers), file)


def checkpoint(layers: Sequence[Layer]) -> dict[str, NDArray[np.float32]]:
    """Return the weights by name."""
    named = _compact if any(layer.type == "PReLU" for layer in layers) else _rrdb
    return {name: np.ascontiguousarray(values, np.float32) for name, values in named(layers)}


def _compact(layers: Sequence[Layer]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """SRVGGNetCompact: convolutions and activations in one sequence."""
    own = [layer for layer in layers if layer.type in ("Convolution", "PReLU")]
    for number, layer in enumerate(own):
        if layer.type == "PReLU":
            yield f"body.{number}.weight", layer.weights[0].astype(np.float32)
        else:
            yield from _convolution(f"body.{number}", layer)


def _rrdb(layers: Sequence[Layer]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """RRDBNet: one convolution, the blocks, and five more."""
    own = [layer for layer in layers if layer.type == "Convolution"]
    blocks, rest = divmod(len(own) - OUTER_CONVOLUTIONS, BLOCK_CONVOLUTIONS)
    if rest:
        raise ValueError(f"{len(own)} convolutions are no RRDBNet")
    inner = [
        f"body.{block}.rdb{dense}.conv{number}"
        for block in range(blocks)
        for dense in (1, 2, 3)
        for number in (1, 2, 3, 4, 5)
    ]
    outer = ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    for name, layer in zip(["conv_first", *inner, *outer], own, strict=True):
        yield from _convolution(name, layer)


def _convolution(name: str, layer: Layer) -> Iterator[tuple[str, NDArray[np.float32]]]:
    channels, side = layer.integer(0), layer.integer(1)
    kernel, bias = layer.weights
    yield f"{name}.weight", kernel.astype(np.float32).reshape(channels, -1, side, side)
    yield f"{name}.bias", bias.astype(np.float32)
