"""Colorization: a network names the colours of a small picture, from its lightness alone.

They are brought to full size along the edges of the lightness, which stays what it was.

Options: ``side_px`` (short side of the small picture), ``most_px`` (bound on its long side),
``radius`` and ``epsilon`` (of the guided filter); ``gain`` (on what differs from the picture's mean
colour) and ``cast`` (on that mean): networks are timid, and brown where they are in doubt.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import openvino as ov

from calotype.backends.base import Machine, ReadWeights
from calotype.backends.guided import Enlarger, averaging, between
from calotype.backends.lab import Values, lightness_of, pixels_of
from calotype.backends.network import read_ir
from calotype.backends.openvino import Engine
from calotype.domain.image import Image, Pixels, Size
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job

STRIDE_PX = 16
"""Sides of the small picture are multiples of this."""
STRIP_PIXELS = 1 << 18
"""Pixels coloured at a time: what is computed of them stays in the processor's cache."""
COMPILED = 4
"""Sizes of the small picture that are kept compiled."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "ColorizeBackend":
    """Load the network; it is compiled for a square picture."""
    backend = ColorizeBackend(spec, read_weights, Engine(machine))
    backend.prepare()
    return backend


class ColorizeBackend:
    """One network, compiled for each size of the small picture that comes."""

    device: Device = "cpu"
    batching = None
    """Most of the time goes into full-size pixels, which don't get faster in company."""
    shrinks = 0

    def __init__(self, spec: ModelSpec, read_weights: ReadWeights, engine: Engine) -> None:
        self._spec, self._engine = spec, engine
        self._weights = {role: read_weights(role) for role in ("xml", "bin")}
        options = spec.options
        self._side, self._most = int(options["side_px"]), int(options["most_px"])
        self._gain, self._cast = float(options["gain"]), float(options["cast"])
        self._radius, self._epsilon = int(options["radius"]), float(options["epsilon"])
        self._compiled: OrderedDict[Size, ov.InferRequest] = OrderedDict()

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        return self._engine.description

    @property
    def compiled(self) -> tuple[Size, ...]:
        """Sizes that the network is compiled for now."""
        return tuple(self._compiled)

    def prepare(self) -> None:
        """Compile for the commonest shape of a photo."""
        self._request(self._small(Size(height_px=2, width_px=3)))

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Colour each picture."""
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> Image:
        job.hooks.step(0, 2)
        strength = job.params.get("strength")
        pixels = job.image.pixels
        small = self._small(job.image.size)
        lightness = _reduced(pixels, small)
        chroma = self._chroma(lightness, small) * np.float32(
            strength if isinstance(strength, int | float) else 1
        )
        h, w = chroma.shape[1:]
        rows, columns = averaging(small.height_px, h), averaging(small.width_px, w)
        coarse = np.asarray(rows @ lightness @ columns.T, np.float32)
        enlarger = Enlarger.fit(coarse, chroma, radius=self._radius, epsilon=self._epsilon)
        job.hooks.step(1, 2)
        coloured = _coloured(pixels, enlarger, (h, w))
        job.hooks.step(2, 2)
        return Image(coloured)

    def _chroma(self, lightness: Values, small: Size) -> Values:
        """Return a* and b* (2, h / 2, w / 2): the mean of what picture and mirror image get."""
        plane = lightness / np.float32(50) - 1
        both = np.ascontiguousarray(np.stack([plane, plane[:, ::-1]])[:, None])
        result = self._request(small).infer([both], share_inputs=True)
        straight, mirrored = next(iter(result.values()))
        chroma = (straight + mirrored[:, :, ::-1]) / 2
        mean = chroma.mean((1, 2), keepdims=True)
        return np.asarray(self._cast * mean + self._gain * (chroma - mean), np.float32)

    def _small(self, size: Size) -> Size:
        """Return the size at which the network sees a picture of a size."""
        short = min(size.height_px, size.width_px)
        sides = (
            min(self._most, max(1, round(side * self._side / short / STRIDE_PX)) * STRIDE_PX)
            for side in (size.height_px, size.width_px)
        )
        height, width = sides
        return Size(height_px=height, width_px=width)

    def _request(self, small: Size) -> ov.InferRequest:
        """Return the network compiled for a size."""
        if (request := self._compiled.get(small)) is None:
            while len(self._compiled) >= COMPILED:
                self._compiled.popitem(last=False)
            name = f"{self._spec.id} at {small}"

            def build() -> ov.Model:
                model = read_ir(self._weights["xml"], self._weights["bin"], self._spec.id)
                model.reshape([2, 1, small.height_px, small.width_px])
                return model

            identity = f"colorize\0{self._spec.revision}\0{small}"
            request = self._engine.compile(name, identity, build).create_infer_request()
            self._compiled[small] = request
        self._compiled.move_to_end(small)
        return request


def _reduced(pixels: Pixels, small: Size) -> Values:
    """Return L* of a picture at a smaller size; the mean is taken of L*."""
    h, w = pixels.shape[:2]
    rows, columns = averaging(h, small.height_px), averaging(w, small.width_px).T
    reduced = np.zeros((small.height_px, small.width_px), np.float32)
    for strip in _strips(h, w):
        reduced += (rows[:, strip] @ lightness_of(pixels[strip])) @ columns
    return reduced


def _coloured(pixels: Pixels, enlarger: Enlarger, small: tuple[int, int]) -> Pixels:
    """Return the picture's own lightness with new chroma."""
    h, w = pixels.shape[:2]
    rows, columns = between(small[0], h), between(small[1], w)
    coloured = np.empty_like(pixels)
    for strip in _strips(h, w):
        lightness = lightness_of(pixels[strip])
        a, b = enlarger.chroma(lightness, rows[strip], columns)
        coloured[strip] = pixels_of(lightness, a, b)
    return coloured


def _strips(height: int, width: int) -> list[slice]:
    """Cut rows into strips of about equally many pixels."""
    step = max(1, STRIP_PIXELS // width)
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]
