"""Object removal without a network: holes are filled with what the rest of the picture has.

PatchMatch finds the patches. One filling is sharp and often right, but its mistakes are as sharp.
So small holes are filled several times, with patches of several sizes and on the mirror image: what
all agree on stays sharp, what they don't is softened, and half of one filling's grain is laid over
it, so that a wall stays a wall.

Source: Barnes et al., PatchMatch: A Randomized Correspondence Algorithm for Structural Image
Editing, SIGGRAPH 2009.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
import patchmatch
from numpy.typing import NDArray

from calotype.backends.base import Machine, ReadWeights
from calotype.backends.guided import averaging
from calotype.backends.lab import Values
from calotype.backends.window import box_mean
from calotype.domain.image import Image, Pixels, Plane
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job
from calotype.errors import InvalidParameterError, MissingWeightsError


@dataclass(frozen=True, slots=True)
class Way:
    """One way to fill a hole."""

    radius: int
    """Of the patches."""
    mirrored: bool = False


SHARPEST = Way(7)
WAYS = (SHARPEST, Way(7, mirrored=True), Way(5), Way(5, mirrored=True), Way(3))
SINGLE = Way(5)
"""For holes too large to be filled several times."""

LEAST_PX = 16
"""Pictures with a shorter side get their mean: the library leaves parts of such holes empty."""
SEVERAL_PX = 40_000
"""Largest hole that is filled in all ways, in pixels."""
LARGEST_PX = 300_000
"""Largest hole that is filled at full size; a third of a minute on two cores."""
GRAIN = 0.5
"""Share of the sharpest filling's grain where the fillings differ; where they agree it is all."""
DOUBTFUL = 2 / 3
"""They differ where their deviation is above this share of the grain."""
NEAR_PX = 3
"""Deviation and grain are those of the pixels this near."""
BLURS = 3
"""Passes of a 3x3 mean: a Gaussian of 1.4 px."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "InpaintBackend":
    """Load nothing but the library.

    Raises:
        MissingWeightsError: its native part doesn't run here.
    """
    del read_weights
    if not patchmatch.patchmatch_available:
        raise MissingWeightsError(
            f"{spec.id}: the native part of pypatchmatch is missing: "
            "pip install --force-reinstall pypatchmatch"
        )
    return InpaintBackend(machine.threads or os.cpu_count() or 1)


class InpaintBackend:
    """Fills the holes of one picture after the other.

    Args:
        threads: ways that are tried at the same time.
    """

    device: Device = "cpu"
    precision = "none (pixels are copied)"
    batching = None
    shrinks = 0

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Fill where ``mask_image`` is white."""
        return [Image(self._run(job)) for job in jobs]

    def _run(self, job: Job) -> Pixels:
        pixels, hole = job.image.pixels, _hole(job)
        holes = np.count_nonzero(hole)
        if holes == hole.size:
            raise InvalidParameterError(
                "mask_image must leave something of the picture, from which it is filled; "
                "all of it is white"
            )
        if holes <= LARGEST_PX:
            return self._filled(job, pixels, hole)
        factor = math.sqrt(holes / LARGEST_PX)
        small, small_hole = _reduced(pixels, hole, factor)
        job.hooks.note(
            f"size; the hole was filled at {small.shape[1]}x{small.shape[0]}, and enlarged to "
            f"{pixels.shape[1]}x{pixels.shape[0]}"
        )
        made = _resampled(self._filled(job, small, small_hole), hole.shape)
        return np.where(hole[:, :, None] > 0, made, pixels)

    def _filled(self, job: Job, pixels: Pixels, hole: Plane) -> Pixels:
        """Fill a hole in all ways that there is time for, and join what they gave."""
        ways = WAYS if np.count_nonzero(hole) <= SEVERAL_PX else (SINGLE,)
        job.hooks.step(0, len(ways))
        made: dict[Way, Pixels] = {}
        with ThreadPoolExecutor(self._threads) as threads:
            futures = {threads.submit(fill, pixels, hole, way): way for way in ways}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    made[futures[future]] = future.result()
                    job.hooks.step(done, len(ways))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        # In the order of the ways: sums of floats depend on it.
        return joined([made[way] for way in ways], hole)


def _hole(job: Job) -> Plane:
    """Return what is filled: the mask, and where it fades out, for a fill has nothing to keep.

    Where that would be everything, only the mask.
    """
    hole = np.ascontiguousarray(job.images["mask_image"].pixels[:, :, 0])
    blur = job.params.get("mask_blur")
    if not isinstance(blur, int) or not blur:
        return hole
    grown = box_mean(hole.astype(np.float32), blur) > 0
    return hole if grown.all() else np.where(grown, np.uint8(255), np.uint8(0))


def fill(pixels: Pixels, hole: Plane, way: Way) -> Pixels:
    """Fill a hole in one way.

    Args:
        pixels: (h, w, 3) uint8.
        hole: (h, w) uint8, not 0 where there is nothing.
        way: how.
    """
    radius = _largest_radius(hole, way.radius) if min(hole.shape) >= LEAST_PX else 0
    if not radius:
        mean = pixels[hole == 0].mean(0)
        return np.where(hole[:, :, None] > 0, np.rint(mean).astype(np.uint8), pixels)
    turn = np.s_[:, ::-1] if way.mirrored else np.s_[:, :]
    made: Pixels = patchmatch.inpaint(
        np.ascontiguousarray(pixels[turn]), np.ascontiguousarray(hole[turn]), patch_size=radius
    )
    # Copies and their means lie between what there is; the library's edges may lie below.
    known = pixels[hole == 0]
    low, high = known.min(axis=0), known.max(axis=0)
    return np.where(hole[:, :, None] > 0, np.clip(made[turn], low, high), pixels)


def joined(fillings: Sequence[Pixels], hole: Plane) -> Pixels:
    """Return what the fillings have in common, with some of the first one's grain.

    Args:
        fillings: each (h, w, 3) uint8, equal outside of the hole.
        hole: (h, w), not 0 where they may differ.
    """
    first = fillings[0]
    if len(fillings) == 1:
        return first
    stack = np.stack(fillings).astype(np.float32)
    sharp, mean = stack[0], np.asarray(stack.mean(axis=0), np.float32)
    grain = sharp - _blurred(sharp)
    doubt = np.sqrt(_around(stack.var(axis=0)) / (_around(grain * grain) + 1))
    share = GRAIN + (1 - GRAIN) * np.clip(1 - doubt / DOUBTFUL, 0, 1)
    value = _blurred(mean) + share[:, :, None] * grain
    made = np.asarray(np.rint(np.clip(value, 0, 255)), np.uint8)
    return np.where(hole[:, :, None] > 0, made, first)


def _blurred(planes: Values) -> Values:
    """Blur (h, w, 3) planes a little."""
    for _ in range(BLURS):
        planes = np.stack([box_mean(plane, 1) for plane in np.moveaxis(planes, 2, 0)], axis=2)
    return planes


def _around(squares: NDArray[np.floating]) -> Values:
    """Return the mean around each pixel of what (h, w, 3) planes sum up to."""
    return box_mean(np.asarray(squares.sum(axis=2), np.float32), NEAR_PX)


def _largest_radius(hole: Plane, most: int) -> int:
    """Return the radius of the largest patch that lies outside of the hole somewhere, or 0."""
    outside = (hole == 0).astype(np.int64)
    sums = np.pad(outside.cumsum(0).cumsum(1), [(1, 0), (1, 0)])
    for radius in range(most, 0, -1):
        side = 2 * radius + 1
        counts = (
            sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        )
        if counts.size and counts.max() == side * side:
            return radius
    return 0


def _reduced(pixels: Pixels, hole: Plane, factor: float) -> tuple[Pixels, Plane]:
    """Make picture and hole smaller; a pixel with a part in the hole is in it."""
    shape = (max(1, round(hole.shape[0] / factor)), max(1, round(hole.shape[1] / factor)))
    share = _resampled(np.repeat(hole[:, :, None], 3, axis=2), shape)[:, :, 0]
    return _resampled(pixels, shape), np.where(share > 0, np.uint8(255), np.uint8(0))


def _resampled(pixels: Pixels, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return (h, w, 3) pixels in another size."""
    rows, columns = averaging(pixels.shape[0], shape[0]), averaging(pixels.shape[1], shape[1])
    planes = [rows @ pixels[:, :, c].astype(np.float32) @ columns.T for c in range(3)]
    return np.asarray(np.rint(np.clip(np.stack(planes, 2), 0, 255)), np.uint8)
