"""The size a pipeline works at: near what it was trained for, in steps that its network takes."""

import math

from calotype.domain.image import Size


def work_size(
    wanted: Size, areas: tuple[float, float], multiple_px: int, longest_px: float = math.inf
) -> Size:
    """Return the size to work at.

    The wanted size if the network can, rounded; else the nearest area that it can, in the same
    ratio.

    Args:
        wanted: what would be best.
        areas: least and most pixels that the network makes good pictures of.
        multiple_px: both sides are multiples of this.
        longest_px: neither side is longer, a multiple of ``multiple_px``.
    """
    least, most = areas
    area = min(max(wanted.pixels, least), most)
    factor = min(
        math.sqrt(area / wanted.pixels), longest_px / max(wanted.height_px, wanted.width_px)
    )
    # Of a picture of 1 x 10000 the area alone would make one side shorter than the network takes.
    longest = most / multiple_px
    height, width = (
        max(multiple_px, round(min(side * factor, longest) / multiple_px) * multiple_px)
        for side in (wanted.height_px, wanted.width_px)
    )
    return Size(height_px=height, width_px=width)
