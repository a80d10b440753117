"""Checkpoints of PyTorch that the library spandrel opens, from super-resolution to inpainting.

Networks that see a picture through a window run tile by tile. Those that need all of it run whole
up to a bound of pixels; so do those that repaint what a mask names, of which larger ones are
repainted at a smaller size.

Options: ``whole_pixels``, up to which a picture runs whole.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import adaptive_max_pool2d, interpolate

from calotype.backends.accelerator import use_cuda
from calotype.backends.base import Machine, ReadWeights
from calotype.backends.checkpoint.compute import Compute, Halves, Mask
from calotype.backends.checkpoint.descriptor import find_network
from calotype.backends.checkpoint.library import hush, spandrel, versions
from calotype.backends.checkpoint.picture import PictureNetwork
from calotype.backends.checkpoint.state import read_state
from calotype.backends.checkpoint.window import (
    WHOLE_STEP_PX,
    rule_of,
    whole_pixels,
    window_of,
)
from calotype.backends.ladder import MIN_TILE_PX, Ladder
from calotype.backends.tiling import run_tiled
from calotype.domain.image import Image, Pixels, Size
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job
from calotype.domain.tiling import Grid, check_result, count_tiles
from calotype.errors import InvalidCatalogError, MissingWeightsError

ROLE = "checkpoint"
MASK = "mask_image"
MASK_SHRINKS = 2
"""How often a picture that is repainted can be halved for want of memory."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "SpandrelBackend":
    """Load a checkpoint, and compile it for the size that most pictures need."""
    file = next((file for file in spec.files if file.role == ROLE), None)
    if file is None:
        raise MissingWeightsError(f"{spec.id}: needs a file {ROLE}")
    hush()
    name = Path(file.path).name
    found = find_network(read_state(read_weights(ROLE), name), name)
    network = PictureNetwork(found)
    if network.is_masked and spec.param(MASK) is None:
        raise InvalidCatalogError(
            f"{spec.id} repaints what a mask names: its catalog entry needs the parameter {MASK}"
        )
    halves = Halves(bf16=found.supports_bfloat16, f16=found.supports_half)
    identity = f"{spec.revision} {versions()}"
    cuda = use_cuda(machine)
    compute = Compute(spec.id, identity, network, halves, machine, cuda=cuda)
    backend = SpandrelBackend(spec, found, compute, machine.max_output_pixels)
    backend.prepare()
    return backend


class SpandrelBackend:
    """One network."""

    batching = None
    """Pictures run one by one: a batch would only keep the first ones waiting."""

    def __init__(
        self,
        spec: ModelSpec,
        found: spandrel.ModelBase,
        compute: Compute,
        max_output_pixels: int | None,
    ) -> None:
        self._align_px, self._compute = spec.align, compute
        self._max_output_pixels = max_output_pixels
        self.scale: int = found.scale
        self._is_masked = isinstance(found, spandrel.MaskedImageModelDescriptor)
        self._is_face = found.purpose == "FaceSR"
        self._rule, self._window = rule_of(found), window_of(found, spec)
        self._whole_pixels = whole_pixels(found, spec)
        multiple_px = math.lcm(self._rule.multiple_px, spec.align)
        least_px = max(MIN_TILE_PX, self._rule.minimum_px)
        self._ladder = Ladder(self._window.tile_px, self.grid, multiple_px, least_px)
        self.shrinks = MASK_SHRINKS if self._is_masked else self._ladder.shrinks

    @property
    def device(self) -> Device:
        """What it computes on."""
        return self._compute.device

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        return self._compute.precision

    def prepare(self) -> None:
        """Compile the tile, or for networks that run whole the smallest picture."""
        side = MIN_TILE_PX if self._whole_pixels else self._window.tile_px
        self._compute.prepare(self._rule.fitting(Size(height_px=side, width_px=side)))

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run each picture, whole or tile by tile."""
        return [Image(self._run(job)) for job in jobs]

    def grid(self, tile_px: int) -> Grid:
        """Return how a picture is cut into tiles of a size."""
        overlap = min(self._window.overlap_px, tile_px // 2)
        blend = min(self._window.blend_px, overlap)
        return Grid(tile_px=tile_px, overlap_px=overlap, blend_px=blend, align_px=self._align_px)

    def _run(self, job: Job) -> Pixels:
        check_result(job.image.size.times(self.scale), self._max_output_pixels)
        bound = self._whole_pixels >> 2 * job.shrink
        if self._is_masked:
            return self._repainted(job, bound)
        size = job.image.size
        if self._rule.fitting(size, WHOLE_STEP_PX).pixels <= bound:
            job.hooks.step(0, 1)
            pixels = self._whole(job.image.pixels)
            job.hooks.step(1, 1)
            return pixels
        # No larger tiles: each would have to be converted from PyTorch first.
        grid = self.grid(self._ladder.choose(size, job.shrink, keep=True))
        self._note_tiles(job, grid)
        return run_tiled(job.image.pixels, grid, self.scale, self._compute.run, job.hooks)

    def _note_tiles(self, job: Job, grid: Grid) -> None:
        """Say what tiles do to a picture that should have been seen whole."""
        size, side = job.image.size, grid.tile_px
        if count_tiles(size.height_px, size.width_px, grid) == 1:
            return
        if self._is_face:
            job.hooks.note(
                f"tiles; made for one face of {side}x{side} pixels; of {size}, each tile was"
                " treated as one"
            )
        elif self._whole_pixels:
            job.hooks.note(
                f"tiles; the picture is too large to be seen whole: tiles of {side}x{side} pixels"
                " were computed, which may differ in tone"
            )

    def _whole(self, pixels: Pixels, mask: Mask | None = None) -> Pixels:
        """Run a picture whole, continued by reflection to a size that is compiled."""
        h, w, _ = pixels.shape
        size = self._rule.fitting(Size(height_px=h, width_px=w), WHOLE_STEP_PX)
        more = ((0, size.height_px - h), (0, size.width_px - w))
        padded = np.pad(pixels, (*more, (0, 0)), mode="reflect")
        wide = None if mask is None else np.pad(mask, more, mode="reflect")
        made = self._compute.run(padded, wide)
        return made[: h * self.scale, : w * self.scale].copy()

    def _repainted(self, job: Job, bound: int) -> Pixels:
        """Repaint a picture where its mask says, at a smaller size if it is too large."""
        pixels, mask = job.image.pixels, job.images[MASK].pixels[..., 0] > 0
        size = job.image.size
        least = self._rule.fitting(Size(height_px=1, width_px=1), WHOLE_STEP_PX)
        bound = max(bound, least.pixels)
        job.hooks.step(0, 1)
        while (fitting := self._rule.fitting(size, WHOLE_STEP_PX)).pixels > bound:
            size = _scaled(size, math.sqrt(bound / fitting.pixels))
        if size != job.image.size:
            pixels, mask = _shrunk(pixels, mask, size)
            job.hooks.note(f"size; {job.image.size} was repainted at {size}, then enlarged")
        made = self._whole(pixels, mask)
        job.hooks.step(1, 1)
        return made


def _scaled(size: Size, share: float) -> Size:
    """Return a size with both sides cut to a share, a pixel less at least where there are two."""
    h, w = (max(1, min(int(side * share), side - 1)) for side in (size.height_px, size.width_px))
    return Size(height_px=h, width_px=w)


def _shrunk(pixels: Pixels, mask: Mask, size: Size) -> tuple[Pixels, Mask]:
    """Make a picture smaller; what covers a repainted pixel is repainted."""
    sides = (size.height_px, size.width_px)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    smaller = interpolate(planes, sides, mode="bilinear", antialias=True)
    chosen = adaptive_max_pool2d(torch.from_numpy(mask)[None].float(), sides)
    found: Pixels = smaller.add(0.5).clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(found), chosen[0].numpy() > 0
