"""Style transfer with any picture as the style."""

from collections.abc import Sequence

import numpy as np

from calotype.backends.base import Machine, ReadWeights
from calotype.backends.instance_norm import NormalisedNetwork, Vector, shrunk
from calotype.backends.mixing import mix
from calotype.backends.network import read_onnx
from calotype.backends.openvino import Engine
from calotype.domain.image import Image, Pixels
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job

STYLE_PX = 256
"""The predictor looks at a square of this side."""
PREDICTOR_PIXELS = 1024 * 1024
"""Larger style pictures are averaged down first, which changes nothing at 256 px."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "StyleImageBackend":
    """Load both networks."""
    return StyleImageBackend(spec, read_weights, Engine(machine))


class StyleImageBackend:
    """One network turns the style picture into 100 numbers, another paints with them.

    Both are quantised, and most of their layers run in 8 bits. OpenVINO can't compile them in bf16,
    which would only move more values into another of the 256 steps.

    Source: Ghiasi et al., Exploring the structure of a real-time, arbitrary neural artistic
        stylization network, BMVC 2017.
    """

    device: Device = "cpu"
    batching = None
    """Pictures are run one by one: their statistics are their own."""
    shrinks = 0

    def __init__(self, spec: ModelSpec, read_weights: ReadWeights, engine: Engine) -> None:
        predict, transform = read_weights("predict"), read_weights("transform")
        self._engine = engine

        compiled = engine.compile(
            f"{spec.id} (predict)",
            f"predict\0{spec.revision}",
            lambda: read_onnx(predict, spec.id),
            exact=True,
        )
        self._predictor = compiled.create_infer_request()
        self._network = NormalisedNetwork(
            spec, engine, lambda: read_onnx(transform, spec.id), channels_last=True, exact=True
        )

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        return "f32 (its networks are quantised: what is not in 8 bits must be exact)"

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Style each picture."""
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> Image:
        pixels = job.image.pixels
        strength = job.params.get("strength")
        share = np.float32(strength if isinstance(strength, int | float) else 1.0)
        style = self._style_of(job.images["style_image"].pixels)
        if share < 1:
            style = share * style + (1 - share) * self._style_of(pixels)
        styled = self._network.run(pixels, style, job.hooks)
        return Image(
            mix(styled, pixels, 1.0, preserve_color=bool(job.params.get("preserve_color")))
        )

    def _style_of(self, pixels: Pixels) -> Vector:
        """Return (1, 1, 1, 100) float32: the style of the picture's central square."""
        h, w, _ = pixels.shape
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        square = shrunk(pixels[top : top + side, left : left + side], PREDICTOR_PIXELS)
        found = self._predictor.infer([_resized(square)[None]])
        vector: Vector = next(iter(found.values())).copy()
        return vector


def _resized(square: Pixels) -> Vector:
    """Resize (side, side, 3) uint8 to (256, 256, 3) float32, 0..1.

    Done by two products with a matrix: a network that takes any size would spend seconds on
    preparing itself for each new one.
    """
    weights = _bicubic(len(square), STYLE_PX)
    rows = np.tensordot(weights, square.astype(np.float32) / 255, axes=(1, 0))  # (256, side, 3)
    return np.tensordot(weights, rows, axes=(1, 1)).transpose(1, 0, 2)  # (256, 256, 3)


def _bicubic(old_px: int, new_px: int) -> Vector:
    """Return the (new, old) matrix of a bicubic resize, widened where it shrinks.

    Source: Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, with a = -0.5;
        the widening is what Pillow does.
    """
    scale = old_px / new_px
    width = max(scale, 1.0)
    centres = (np.arange(new_px) + 0.5) * scale - 0.5
    x = np.abs(np.arange(old_px)[None] - centres[:, None]) / width
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))  # noqa: PLR2004  the kernel's support
    matrix: Vector = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix
