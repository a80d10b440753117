"""Means over square windows."""

import numpy as np

from calotype.backends.lab import Values


def box_mean(plane: Values, radius: int) -> Values:
    """Return the mean over the square around each place, of what of it lies in the picture."""
    for axis in (0, 1):
        length = plane.shape[axis]
        sums = np.cumsum(plane, axis=axis, dtype=np.float64)
        sums = np.insert(sums, 0, 0, axis=axis)
        index = np.arange(length)
        first, last = np.maximum(index - radius, 0), np.minimum(index + radius + 1, length)
        count = (last - first).astype(np.float64)
        shape = (-1, 1) if axis == 0 else (1, -1)
        total = np.take(sums, last, axis=axis) - np.take(sums, first, axis=axis)
        plane = (total / count.reshape(shape)).astype(np.float32)
    return plane
