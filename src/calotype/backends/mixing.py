"""Mix a styled picture with the picture it was made from."""

import numpy as np

from calotype.domain.image import LUMA, Pixels

CHUNK_ROWS = 256
"""Rows mixed at a time, so that the float copies stay small."""


def mix(styled: Pixels, original: Pixels, strength: float, *, preserve_color: bool) -> Pixels:
    """Blend, keeping the original's colours if asked.

    Args:
        styled: (h, w, 3) uint8; overwritten.
        original: (h, w, 3) uint8.
        strength: 0 gives the original exactly, 1 the styled picture.
        preserve_color: take only the luma from the styled picture.

    Returns:
        (h, w, 3) uint8: ``styled``, overwritten.
    """
    if strength >= 1 and not preserve_color:
        return styled
    luma = np.array(LUMA, np.float32)
    for top in range(0, len(styled), CHUNK_ROWS):
        rows = slice(top, top + CHUNK_ROWS)
        before, after = original[rows].astype(np.float32), styled[rows].astype(np.float32)
        change = after - before
        if preserve_color:
            change = (change @ luma)[..., None]
        styled[rows] = np.rint(np.clip(before + strength * change, 0, 255)).astype(np.uint8)
    return styled
