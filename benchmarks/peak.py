"""How many operations a network needs, and how many a second this machine can do at most."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from calotype.backends.ncnn import Layer
from calotype.domain.image import Pixels
from contest import Run

SHAPES = ((2048, 2048), (4096, 1024), (4096, 512), (8192, 512))
"""Rows of the one matrix, and the side of the other; which of them is fastest differs."""
PRODUCTS = 6
TRIALS = 3


def flops(layers: Sequence[Layer], pixels: int) -> float:
    """Count the operations of a network's convolutions, a multiply-add being two.

    Args:
        layers: ncnn's, with stride 1 and padding that keeps the size.
        pixels: of the picture.
    """
    scale: dict[str, float] = {}
    total = 0.0
    for layer in layers:
        here = scale[layer.inputs[0]] if layer.inputs else 1.0
        if layer.type == "Interp":
            here *= layer.number(1)
        elif layer.type == "PixelShuffle":
            here *= layer.integer(0)
        elif layer.type == "Convolution":
            if layer.integer(3, 1) != 1:
                raise ValueError(f"{layer.name} has a stride")
            total += 2.0 * layer.integer(6) * pixels * here**2
        scale |= dict.fromkeys(layer.outputs, here)
    return total


class Peak:
    """Nothing but products of large matrices: the most that a processor does. A contestant."""

    def __init__(self, precision: str) -> None:
        runs = {shape: _products(*shape, precision) for shape in SHAPES}
        seconds = {shape: min(run() for _ in range(TRIALS)) for shape, run in runs.items()}
        rows, side = max(SHAPES, key=lambda shape: _flops(*shape) / seconds[shape])
        self.flops, self._run = _flops(rows, side), runs[rows, side]
        print(f"  the fastest products are of {rows} x {side} by {side} x {side}", flush=True)

    def __call__(self, pixels: Pixels, keep: bool) -> Run:
        """Run the products; the picture doesn't matter."""
        del pixels, keep
        return Run(self._run())


def _flops(rows: int, side: int) -> float:
    return 2.0 * PRODUCTS * rows * side**2


def _products(rows: int, side: int, precision: str) -> Callable[[], float]:
    """Return what runs a chain of products once and tells the seconds it took."""
    rng = np.random.default_rng(0)
    first = op.parameter([rows, side], np.float32)
    node = first.output(0)
    for _ in range(PRODUCTS):
        other = op.constant(rng.standard_normal((side, side), np.float32) / np.float32(side**0.5))
        node = op.matmul(node, other, transpose_a=False, transpose_b=False).output(0)
    model = ov.Model([op.result(node)], [first], "products")
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()
    given = rng.standard_normal((rows, side), np.float32)
    request.infer([given], share_inputs=True, share_outputs=True)

    def run() -> float:
        started_s = time.perf_counter()
        request.infer([given], share_inputs=True, share_outputs=True)
        return time.perf_counter() - started_s

    return run
