"""Networks that look at a picture through a window: super-resolution, restoration.

The picture is cut into tiles of the one shape that the network was compiled for.
"""

import logging
from collections.abc import Sequence
from functools import partial

import openvino as ov

from calotype.backends.base import Machine, ReadWeights
from calotype.backends.ladder import Ladder
from calotype.backends.network import fix_tile, read_ncnn_network, read_onnx, with_uint8
from calotype.backends.openvino import Engine
from calotype.backends.tiling import run_tiled
from calotype.domain.image import Image, Pixels
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job
from calotype.domain.tiling import SHRINK, TILE, check_result, grid_of
from calotype.errors import MissingWeightsError

logger = logging.getLogger(__name__)

MAX_NETWORKS = 3
"""Compiled at a time, of all scales and tiles: each may take half a gigabyte."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "TiledBackend":
    """Load the network that requests without a ``scale`` use."""
    backend = TiledBackend(spec, read_weights, Engine(machine), machine.max_output_pixels)
    backend.network(backend.default_scale, spec.tile)
    return backend


class Network:
    """One compiled network of a fixed tile."""

    def __init__(
        self, spec: ModelSpec, variant: str, tile_px: int, read_weights: ReadWeights, engine: Engine
    ) -> None:
        name = f"{spec.id}{variant}"
        param, weights, onnx = (f"{role}{variant}" for role in ("param", "bin", "onnx"))
        roles = {file.role for file in spec.files}
        if onnx not in roles and not {param, weights} <= roles:
            raise MissingWeightsError(f"{name}: needs a file {onnx}, or {param} and {weights}")
        # Read even if the compiled network is at hand: a changed file must never go unnoticed.
        files = {r: read_weights(r) for r in ((onnx,) if onnx in roles else (param, weights))}

        def build() -> ov.Model:
            model = (
                read_onnx(files[onnx], name)
                if onnx in files
                else read_ncnn_network(files[param], files[weights], name)
            )
            fix_tile(model, tile_px, name)
            return with_uint8(model, name)

        identity = f"tiled\0{spec.revision}\0{variant}\0{tile_px}"
        self._request = engine.compile(name, identity, build).create_infer_request()
        tile_h, tile_w = self._request.model_inputs[0].shape[1:3]
        out_h, out_w = self._request.model_outputs[0].shape[1:3]
        self.scale, rest = divmod(out_h, tile_h)
        if rest or out_w != tile_w * self.scale or not self.scale:
            raise MissingWeightsError(
                f"{name}: makes {out_w}x{out_h} of {tile_w}x{tile_h}; expected a whole multiple"
            )
        self.grid = grid_of(spec, tile_h)

    def run(self, tile: Pixels) -> Pixels:
        """Run (th, tw, 3) uint8 -> (th * s, tw * s, 3) uint8."""
        result = self._request.infer([tile[None]], share_inputs=True, share_outputs=True)
        output: Pixels = next(iter(result.values()))[0]
        return output


class TiledBackend:
    """A network, or one for each ``scale`` that the model offers."""

    device: Device = "cpu"
    batching = None
    """Pictures run one by one, tile by tile: a batch would only keep the first ones waiting."""

    def __init__(
        self,
        spec: ModelSpec,
        read_weights: ReadWeights,
        engine: Engine,
        max_output_pixels: int | None,
    ) -> None:
        self._spec, self._read, self._engine = spec, read_weights, engine
        self._max_output_pixels = max_output_pixels
        self._networks: dict[tuple[int, int], Network] = {}
        self._ladder = Ladder(spec.tile, partial(grid_of, spec), spec.align)
        offered = spec.param("scale")
        self.default_scale = int(offered.default or 0) if offered else 0
        self.shrinks = self._ladder.shrinks

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        return self._engine.description

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those that were compiled so far."""
        return tuple(self._networks.values())

    def network(self, scale: int, tile_px: int) -> Network:
        """Return the network for a scale (0: the only one), compiled at its first use."""
        key = (scale, tile_px)
        if (network := self._networks.pop(key, None)) is None:
            while len(self._networks) >= MAX_NETWORKS:
                del self._networks[next(iter(self._networks))]  # used longest ago
            variant = f"@{scale}" if scale else ""
            network = Network(self._spec, variant, tile_px, self._read, self._engine)
        self._networks[key] = network
        return network

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run each picture through its network, tile by tile."""
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> Image:
        asked = job.params.get("scale")
        scale = asked if isinstance(asked, int) else self.default_scale
        network = self._network_for(job, scale)
        check_result(job.image.size.times(network.scale), self._max_output_pixels)
        if job.is_strip:
            self._tell_tile(job, network.grid.tile_px)
        pixels = run_tiled(job.image.pixels, network.grid, network.scale, network.run, job.hooks)
        return Image(pixels)

    def _tell_tile(self, job: Job, tile_px: int) -> None:
        """Tell which tile a strip was cut into, and whether it is a smaller one as was asked."""
        is_smaller = tile_px == self._ladder.halved(job.shrink) < self._spec.tile
        job.hooks.tell(TILE, str(tile_px))
        job.hooks.tell(SHRINK, str(job.shrink if is_smaller else 0))

    def _network_for(self, job: Job, scale: int) -> Network:
        """Return the network for the tile, or for another one where that is better."""
        if job.is_strip:  # part of a picture that has many tiles
            tile = self._ladder.halved(job.shrink)
        else:
            tile = self._ladder.choose(job.image.size, job.shrink, keep=job.keep_tile)
        if tile != self._spec.tile:
            try:
                network = self.network(scale, tile)
                if network.grid.tile_px == tile:
                    return network
                logger.info("%s has one size of its own", self._spec.id)
            except MissingWeightsError:
                logger.warning("%s takes no tile of %d px", self._spec.id, tile)
            self._networks.pop((scale, tile), None)
            self._ladder.refuse(tile)
        return self.network(scale, self._spec.tile)
