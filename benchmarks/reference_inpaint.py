"""`inpaint` once more: the fillings by the patchmatch library called directly, joined in f64.

A hole of more than ``SEVERAL_PX`` pixels is filled once, and the library's answer is the result,
but for colours that the picture doesn't have. A smaller one is filled in five ways; their mean gets
the grain of the first.
"""

import cv2
import numpy as np
import patchmatch
from numpy.typing import NDArray

from testset import Pixels

MARGIN_PX, WHOLE_SHARE = 128, 0.7
SEVERAL_PX = 40_000
WAYS = ((7, False), (7, True), (5, False), (5, True), (3, False))
"""Radius of the patches, and whether on the mirror image."""
SINGLE = (5, False)
GRAIN, DOUBTFUL, NEAR_PX, BLURS = 0.5, 2 / 3, 3, 3

Values = NDArray[np.float64]


def filled(pixels: Pixels, mask: Pixels) -> Pixels:
    """Fill where a mask (h, w) isn't black, with what is near it."""
    place = _near(mask)
    made = pixels.copy()
    made[place] = _filled(np.ascontiguousarray(pixels[place]), mask[place] > 0)
    return made


def _near(mask: Pixels) -> tuple[slice, slice]:
    """Return the cut-out that patches are taken from: the hole with a margin, or everything."""
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    margin = max(MARGIN_PX, *(int(last - first) + 1 for first, last in ends))
    rows, columns = (
        slice(max(0, int(first) - margin), min(length, int(last) + 1 + margin))
        for (first, last), length in zip(ends, mask.shape, strict=True)
    )
    is_most = mask[rows, columns].size > WHOLE_SHARE * mask.size
    return (slice(None), slice(None)) if is_most else (rows, columns)


def _filled(pixels: Pixels, hole: NDArray[np.bool_]) -> Pixels:
    if np.count_nonzero(hole) > SEVERAL_PX:
        return _once(pixels, hole, *SINGLE)
    stack = np.stack([_once(pixels, hole, *way) for way in WAYS]).astype(np.float64)
    grain = stack[0] - _blurred(stack[0])
    variance, power = (_mean(squares.sum(axis=2), NEAR_PX) for squares in (stack.var(0), grain**2))
    doubt = np.sqrt(np.maximum(variance, 0) / (power + 1))  # running sums may end below 0
    share = GRAIN + (1 - GRAIN) * np.clip(1 - doubt / DOUBTFUL, 0, 1)
    joined = _blurred(stack.mean(axis=0)) + share[:, :, None] * grain
    levels = np.rint(np.clip(joined, 0, 255)).astype(np.uint8)
    return np.where(hole[:, :, None], levels, pixels)


def _once(pixels: Pixels, hole: NDArray[np.bool_], radius: int, mirrored: bool) -> Pixels:
    turn = np.s_[:, ::-1] if mirrored else np.s_[:, :]
    made = patchmatch.inpaint(pixels[turn], hole[turn], patch_size=radius)[turn]
    known = pixels[~hole]
    inside = np.clip(made, known.min(axis=0), known.max(axis=0))
    return np.where(hole[:, :, None], inside, pixels)


def _blurred(planes: Values) -> Values:
    for _ in range(BLURS):
        planes = np.stack([_mean(plane, 1) for plane in np.moveaxis(planes, 2, 0)], axis=2)
    return planes


def _mean(plane: Values, radius: int) -> Values:
    """Return the mean over squares, of what of them lies in the picture."""
    side = (2 * radius + 1, 2 * radius + 1)
    total, count = (
        np.asarray(cv2.boxFilter(values, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT))
        for values in (np.ascontiguousarray(plane), np.ones_like(plane))
    )
    return np.asarray(total / count)
