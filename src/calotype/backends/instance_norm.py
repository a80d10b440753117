"""Networks that normalise by statistics of the whole picture, run in bounded memory.

Style networks subtract each channel's mean over the picture and divide by its deviation, so a
tile alone would get the wrong contrast. A picture of up to ``whole_pixels`` runs in one piece. Of
a larger one a thumbnail runs first, only to learn those means; then the tiles run with them.

Source: thumbnail instance normalization, Chen et al., Towards Ultra-Resolution Neural Style
    Transfer via Thumbnail Instance Normalization, AAAI 2022.
"""

from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from calotype.backends.network import with_uint8
from calotype.backends.openvino import Engine
from calotype.backends.tiling import run_tiled
from calotype.domain.hooks import Hooks
from calotype.domain.image import RGB, Pixels
from calotype.domain.model import ModelSpec
from calotype.domain.tiling import Grid

Read = Callable[[], ov.Model]
Vector = NDArray[np.float32]

MIN_SIDE_PX = 16
"""The networks mirror their borders at a quarter of the resolution, which takes a few pixels."""
DEFAULT_WHOLE_PIXELS = 1024 * 1024


class NormalisedNetwork:
    """A network of one picture and one style vector, in the three forms it is needed in.

    Args:
        spec: tile, overlap and alignment; option ``whole_pixels`` bounds what runs in one piece.
        engine: compiles.
        read: reads the network; its first input is the picture, the other the style vector.
        channels_last: layout of the picture in the network.
        exact: compute in f32 whatever the machine's precision is.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        read: Read,
        *,
        channels_last: bool,
        exact: bool = False,
    ) -> None:
        self._spec, self._engine, self._read, self._last = spec, engine, read, channels_last
        self._exact = exact
        self.whole_pixels = int(spec.options.get("whole_pixels", DEFAULT_WHOLE_PIXELS))
        self._grid = Grid(
            tile_px=spec.tile, overlap_px=spec.overlap, blend_px=spec.blend, align_px=spec.align
        )
        self._whole = self._compile("whole", self._build_whole)
        self._large: tuple[ov.InferRequest, ov.InferRequest] | None = None

    def run(self, pixels: Pixels, style: Vector, hooks: Hooks) -> Pixels:
        """Run (h, w, 3) uint8 -> (h, w, 3) uint8."""
        h, w, _ = pixels.shape
        if max(h, MIN_SIDE_PX) * max(w, MIN_SIDE_PX) > self.whole_pixels:
            return self._run_large(pixels, style, hooks)
        hooks.step(0, 1)
        padded = padded_to(pixels, self._spec.align)
        result = self._whole.infer([padded[None], style], share_inputs=True)
        hooks.step(1, 1)
        output: Pixels = next(iter(result.values()))[0, :h, :w]
        return np.ascontiguousarray(output)

    def _run_large(self, pixels: Pixels, style: Vector, hooks: Hooks) -> Pixels:
        if self._large is None:
            self._large = (
                self._compile("means", self._build_means),
                self._compile("tile", self._build_tile),
            )
        measure, tile = self._large
        thumbnail = padded_to(shrunk(pixels, self.whole_pixels, MIN_SIDE_PX), self._spec.align)
        found = measure.infer([thumbnail[None], style], share_inputs=True)
        means = list(found.values())

        def run_tile(part: Pixels) -> Pixels:
            result = tile.infer([part[None], style, *means], share_inputs=True, share_outputs=True)
            output: Pixels = next(iter(result.values()))[0]
            return output

        return run_tiled(pixels, self._grid, 1, run_tile, hooks)

    def _compile(self, form: str, build: Callable[[], ov.Model]) -> ov.InferRequest:
        identity = f"{form}\0{self._spec.revision}\0{self._spec.tile}"
        name = f"{self._spec.id} ({form})"
        compiled = self._engine.compile(name, identity, build, exact=self._exact)
        return compiled.create_infer_request()

    def _build_whole(self) -> ov.Model:
        return with_uint8(self._shaped(-1), self._spec.id, channels_last=self._last)

    def _build_means(self) -> ov.Model:
        model = with_uint8(self._shaped(-1), self._spec.id, channels_last=self._last)
        results = [op.result(node.output(0)) for node in _means(model)]
        return ov.Model(results, model.get_parameters(), "means")

    def _build_tile(self) -> ov.Model:
        model = with_uint8(self._shaped(self._spec.tile), self._spec.id, channels_last=self._last)
        given = []
        for node in _means(model):
            given.append(op.parameter(node.output(0).partial_shape, np.float32))
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(given[-1].output(0))
        return ov.Model(model.get_results(), [*model.get_parameters(), *given], "tile")

    def _shaped(self, side_px: int) -> ov.Model:
        """Read the network for pictures of a side, -1 for any."""
        model = self._read()
        shape = [1, side_px, side_px, RGB] if self._last else [1, RGB, side_px, side_px]
        model.reshape({model.input(0).any_name: ov.PartialShape(shape)})
        return model


def _means(model: ov.Model) -> Sequence[ov.Node]:
    """Return the nodes that average over the picture, in the order of execution."""
    spatial = 4  # n c h w, which is what the picture's own tensors have
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "ReduceMean"
        and node.input(0).get_partial_shape().rank.get_length() == spatial
    ]


def padded_to(pixels: Pixels, multiple: int) -> Pixels:
    """Continue a picture to the right and below by reflection, to what the network takes."""
    h, w, _ = pixels.shape
    sides = [max(MIN_SIDE_PX, side) for side in (h, w)]
    down, right = (
        -(-side // multiple) * multiple - old for side, old in zip(sides, (h, w), strict=True)
    )
    return (
        np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="reflect") if down or right else pixels
    )


def shrunk(pixels: Pixels, max_pixels: int, min_side_px: int = 1) -> Pixels:
    """Shrink a picture by the smallest whole factor that fits, averaging k x k blocks.

    Args:
        pixels: (h, w, 3) uint8.
        max_pixels: most pixels of the result.
        min_side_px: a side shorter than this counts as this, as it will be padded to it.
    """
    h, w, c = pixels.shape
    max_pixels = max(max_pixels, min_side_px**2)
    factor = 1
    while max(h // factor, min_side_px) * max(w // factor, min_side_px) > max_pixels:
        factor += 1
    if factor == 1:
        return pixels
    rows, columns = min(factor, h), min(factor, w)
    th, tw = h // rows, w // columns
    total = np.zeros((th, tw, c), np.uint32)
    for y in range(rows):
        for x in range(columns):
            total += pixels[y : th * rows : rows, x : tw * columns : columns]
    count = rows * columns
    mean: Pixels = ((total + count // 2) // count).astype(np.uint8)
    return mean
