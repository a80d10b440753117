"""Style transfer with built-in styles: one network, a weight for each style."""

from collections.abc import Sequence

import numpy as np

from calotype.backends.base import Machine, ReadWeights
from calotype.backends.instance_norm import NormalisedNetwork, Vector
from calotype.backends.mixing import mix
from calotype.backends.network import read_onnx
from calotype.backends.openvino import Engine
from calotype.domain.image import Image
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "StyleBackend":
    """Load the network."""
    return StyleBackend(spec, read_weights, Engine(machine))


class StyleBackend:
    """Conditional instance normalization: the style is a mixture of learned scales and shifts.

    Source: Dumoulin et al., A Learned Representation For Artistic Style, ICLR 2017.
    """

    device: Device = "cpu"
    batching = None
    """Pictures are run one by one: their statistics are their own."""
    shrinks = 0

    def __init__(self, spec: ModelSpec, read_weights: ReadWeights, engine: Engine) -> None:
        weights = read_weights("onnx")
        self._engine = engine
        self._styles = len(spec.param("style").choices)  # type: ignore[union-attr]  # the catalog says
        self._network = NormalisedNetwork(
            spec, engine, lambda: read_onnx(weights, spec.id), channels_last=False
        )

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        return self._engine.description

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Style each picture."""
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> Image:
        pixels = job.image.pixels
        styled = self._network.run(pixels, self._vector(job), job.hooks)
        strength, preserve = job.params.get("strength"), job.params.get("preserve_color")
        return Image(
            mix(
                styled,
                pixels,
                float(strength) if isinstance(strength, int | float) else 1.0,
                preserve_color=bool(preserve),
            )
        )

    def _vector(self, job: Job) -> Vector:
        """Return the weight of each style."""
        vector = np.zeros(self._styles, np.float32)
        blend = job.params["style"]
        if not isinstance(blend, tuple):
            raise TypeError(f"style is a validated blend, got {blend!r}")
        for index, weight in blend:
            vector[index] = weight
        return vector
