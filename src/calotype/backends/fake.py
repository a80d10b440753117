"""A backend without a network, for tests and for trying a deployment out.

Options: ``steps`` and ``step_s`` (how long a run takes); ``load_s``; ``load_bytes`` and
``run_bytes`` (memory that it holds, and that a run needs beside, halved with the tile); ``fail``:
``crash``, ``memory``, ``large`` (memory, with a full tile), ``output``, ``load``, ``kill`` (its
process dies) or ``hang`` (no answer,
whoever asks it to stop); ``once``: a file that is made at the first failure, and ends them;
``bad``: only a picture whose first value is this one fails; ``previews``: 1 shows the input, made
small, at every step.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calotype.backends.base import Backend, Batching, Machine, ReadWeights
from calotype.domain.event import Preview
from calotype.domain.image import Image
from calotype.domain.model import Device, ModelSpec
from calotype.domain.png import PngWriter
from calotype.domain.request import Job, step_together
from calotype.domain.tiling import SHRINK, TILE
from calotype.errors import BadOutputError, MissingWeightsError, OutOfMemoryError

HANG_S = 3600.0
PREVIEW_PX = 64
"""Bound on both sides."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> Backend:
    """Load nothing, in as much time as asked for."""
    del read_weights, machine
    time.sleep(float(spec.options.get("load_s", 0)))
    if spec.options.get("fail") == "load" and _now(spec):
        raise MissingWeightsError(f"{spec.id}: told to fail at load")
    return FakeBackend(spec)


class FakeBackend:
    """Returns its input, inverted when a job's ``invert`` is true, repeated ``scale`` times."""

    precision = "none (fake)"
    device: Device = "cpu"
    batching = Batching()
    shrinks = 2

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._scale = spec.scale or 1
        self._steps = int(spec.options.get("steps", 1))
        self._step_s = float(spec.options.get("step_s", 0))
        self._held = np.ones(int(spec.options.get("load_bytes", 0)), np.uint8)

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Sleep step by step, then answer or fail as told."""
        for job in jobs:
            if job.is_strip:
                job.hooks.tell(TILE, str(self._spec.tile >> job.shrink))
                job.hooks.tell(SHRINK, str(job.shrink))
        used = np.ones(int(self._spec.options.get("run_bytes", 0)) >> jobs[0].shrink, np.uint8)
        step_together(jobs, 0, self._steps)
        for done in range(self._steps):
            time.sleep(self._step_s)
            self._show(jobs)
            step_together(jobs, done + 1, self._steps)
        if self._is_bad(jobs) and _now(self._spec):
            _fail(str(self._spec.options.get("fail", "")), jobs[0].shrink)
        del used
        return [self._answer(job) for job in jobs]

    def _show(self, jobs: Sequence[Job]) -> None:
        """Show each job what there is, if told to."""
        for job in jobs:
            if self._spec.options.get("previews") and not job.hooks.cancelled:
                every = -(-max(job.image.pixels.shape) // PREVIEW_PX)
                small = Image(job.image.pixels[::every, ::every])
                png = PngWriter(small.size, effort=6)
                job.hooks.happened(Preview(png.head() + png.rows(small.pixels) + png.end()))

    def _is_bad(self, jobs: Sequence[Job]) -> bool:
        bad = self._spec.options.get("bad")
        return bad is None or any(job.image.pixels[0, 0, 0] == bad for job in jobs)

    def _answer(self, job: Job) -> Image:
        pixels = job.image.pixels
        if self._scale > 1:
            pixels = pixels.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        return Image(255 - pixels if job.params.get("invert") else pixels)


def _fail(how: str, shrink: int) -> None:
    """Fail as told; what runs out of memory does with no smaller tile."""
    match how:
        case "crash":
            raise RuntimeError("told to crash, at /secret/path")
        case "memory":
            raise OutOfMemoryError("told to run out of memory")
        case "large" if not shrink:
            raise OutOfMemoryError("told to run out of memory with a full tile")
        case "output":
            raise BadOutputError("told to answer nonsense")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(HANG_S)
        case _:
            pass


def _now(spec: ModelSpec) -> bool:
    """Tell whether to fail: always, or the first time only."""
    if "once" not in spec.options:
        return True
    try:
        Path(str(spec.options["once"])).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
