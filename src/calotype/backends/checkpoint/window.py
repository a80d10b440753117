"""What of a picture a network of some architecture sees at once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from calotype.backends.checkpoint.library import spandrel
from calotype.domain.image import Size
from calotype.domain.model import AUTO, ModelSpec

WHOLE_STEP_PX = 64
"""Sides of pictures that run whole are rounded up to multiples of this: few shapes are compiled."""
MEGAPIXEL = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How pictures are cut.

    Attributes:
        tile_px: side of a tile.
        overlap_px: pixels that neighbouring tiles share.
        blend_px: of these, the middle ones over which one fades into the other.
    """

    tile_px: int = 256
    overlap_px: int = 32
    blend_px: int = 16


# A network of convolutions alone is exact if a tile reaches half of (overlap - blend) beyond what
# counts of it; the reach is one pixel for each 3x3 layer. Attention and averages over the tile see
# all of it, so there the overlap only hides the seams.
_DEEP = Window(overlap_px=48)  # some 350 layers: exact would be a whole tile; 48 px show no seam
_ATTENTION = Window(tile_px=192)  # windows of 8 to 64 px divide it; more is gigabytes
_POOLED = Window(tile_px=384, overlap_px=64)  # averages over a tile, trained on 256 px
_LEVELS = Window(overlap_px=64)  # three or four halvings: a pixel reaches some 60 px
_FACE = Window(tile_px=512, overlap_px=64)  # trained on one face of 512 px
_WINDOWS: Mapping[str, Window] = {
    "DnCNN": Window(overlap_px=56),  # at most 20 layers
    "Compact": Window(overlap_px=72, blend_px=4),  # at most 34 layers
    "ESRGAN": _DEEP,
    "MMRealSR": _DEEP,
    "RCAN": _DEEP,
    "ATD": _ATTENTION,
    "CRAFT": _ATTENTION,
    "DAT": _ATTENTION,
    "DCTLSA": _ATTENTION,
    "DITN": _ATTENTION,
    "DRCT": _ATTENTION,
    "GRL": _ATTENTION,
    "HAT": _ATTENTION,
    "IPT": _ATTENTION,
    "OmniSR": _ATTENTION,
    "RGT": _ATTENTION,
    "SRFormer": _ATTENTION,
    "Swin2SR": _ATTENTION,
    "SwinIR": _ATTENTION,
    "NAFNet": _POOLED,
    "RetinexFormer": _POOLED,
    "MixDehazeNet": _POOLED,
    "DRUNet": _LEVELS,
    "FBCNN": _LEVELS,
    "FFTformer": _LEVELS,
    "KBNet": _LEVELS,
    "M3SNet": _LEVELS,
    "MIRNet2": _LEVELS,
    "MPRNet": _LEVELS,
    "Restormer": _LEVELS,
    "SCUNet": _LEVELS,
    "Uformer": _LEVELS,
    "AuraSR": _FACE,  # no face, but made for that size too
    "CodeFormer": _FACE,
    "GFPGAN": _FACE,
    "RestoreFormer": _FACE,
}
_WHOLE_PIXELS: Mapping[str, int] = {
    "DDColor": 16 * MEGAPIXEL,  # its network sees 256 px of it; the rest is arithmetic on pixels
    "LaMa": 2 * MEGAPIXEL,  # some 2 GB
    "MAT": MEGAPIXEL,  # trained on 512 px; large ones are repainted smaller
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRule:
    """Which sizes a network takes."""

    minimum_px: int
    multiple_px: int
    is_square: bool

    def fitting(self, size: Size, step_px: int = 1) -> Size:
        """Return the smallest size that holds a picture.

        Args:
            size: of the picture.
            step_px: sides are multiples of this too.
        """
        step = math.lcm(step_px, self.multiple_px)
        sides = (size.height_px, size.width_px)
        h, w = (-(-max(side, self.minimum_px) // step) * step for side in sides)
        if self.is_square:
            h = w = max(h, w)
        return Size(height_px=h, width_px=w)


def rule_of(found: spandrel.ModelBase) -> SizeRule:
    """Return the size rule of a network."""
    said = found.size_requirements
    return SizeRule(
        minimum_px=max(1, said.minimum), multiple_px=said.multiple_of, is_square=said.square
    )


def whole_pixels(found: spandrel.ModelBase, spec: ModelSpec) -> int:
    """Return up to how many pixels a picture runs whole; 0: it is cut into tiles.

    ``whole_pixels`` of the model's options beats the table.
    """
    masked = isinstance(found, spandrel.MaskedImageModelDescriptor)
    if found.tiling is spandrel.ModelTiling.SUPPORTED and not masked:
        return 0
    usual = _WHOLE_PIXELS.get(found.architecture.id, MEGAPIXEL)
    said = spec.options.get("whole_pixels", usual)
    return said if isinstance(said, int) else usual


def window_of(found: spandrel.ModelBase, spec: ModelSpec) -> Window:
    """Return how pictures are cut: as the model's TOML says, else by the architecture.

    A tile is rounded up to what the network takes.
    """
    usual, rule = _WINDOWS.get(found.architecture.id, Window()), rule_of(found)
    wanted = usual.tile_px if spec.tile == AUTO else spec.tile
    tile = rule.fitting(Size(height_px=wanted, width_px=wanted), spec.align).height_px
    overlap = min(usual.overlap_px if spec.overlap == AUTO else spec.overlap, tile // 2)
    blend = min(usual.blend_px if spec.blend == AUTO else spec.blend, overlap)
    return Window(tile_px=tile, overlap_px=overlap, blend_px=blend)
