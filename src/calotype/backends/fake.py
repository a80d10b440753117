"""A backend without a network, for tests and for trying a deployment out.

Options: ``scale`` (nearest neighbour), ``fail`` (``crash``, ``memory``, ``output`` or ``load``),
``step_s`` and ``steps`` (how long a run takes), ``load_s``.
"""

import time
from collections.abc import Hashable, Sequence

import numpy as np

from calotype.backends.base import Backend, Machine, ReadWeights
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.errors import BadOutputError, MissingWeightsError, OutOfMemoryError


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> Backend:
    """Load nothing, in as much time as asked for."""
    del read_weights, machine
    time.sleep(float(spec.options.get("load_s", 0)))
    if spec.options.get("fail") == "load":
        raise MissingWeightsError(f"{spec.id}: told to fail at load")
    return FakeBackend(spec)


class FakeBackend:
    """Returns its input, inverted when a job's ``invert`` is true, repeated ``scale`` times."""

    precision = "none (fake)"

    def __init__(self, spec: ModelSpec) -> None:
        self._scale = spec.scale or 1
        self._fail = str(spec.options.get("fail", ""))
        self._steps = int(spec.options.get("steps", 1))
        self._step_s = float(spec.options.get("step_s", 0))

    def batch_key(self, job: Job) -> Hashable:
        """Batch what has one shape."""
        return job.image.pixels.shape

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Sleep step by step, then answer or fail as told."""
        for done in range(self._steps):
            time.sleep(self._step_s)
            for job in jobs:
                job.hooks.step(done + 1, self._steps)
        match self._fail:
            case "crash":
                raise RuntimeError("told to crash, at /secret/path")
            case "memory":
                raise OutOfMemoryError("told to run out of memory")
            case "output":
                raise BadOutputError("told to answer nonsense")
            case _:
                pass
        return [self._answer(job) for job in jobs]

    def _answer(self, job: Job) -> Image:
        pixels = job.image.pixels.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        return Image(255 - pixels if job.params.get("invert") else np.ascontiguousarray(pixels))
