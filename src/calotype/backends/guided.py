"""From a few chroma values to one for each pixel, along the edges of the lightness.

Source: He and Sun, "Fast Guided Filter" (2015): where lightness and chroma change together in the
small picture, they do in the large one.
"""

from dataclasses import dataclass

import numpy as np

from calotype.backends.lab import Values
from calotype.backends.window import box_mean


@dataclass(frozen=True, slots=True)
class Enlarger:
    """Chroma as a linear function of lightness, which changes slowly over the picture.

    Args:
        slope: (2, h, w) at the small size, of a* and b*.
        offset: (2, h, w).
    """

    slope: Values
    offset: Values

    @classmethod
    def fit(cls, lightness: Values, chroma: Values, *, radius: int, epsilon: float) -> "Enlarger":
        """Fit the function in the square window around each place.

        Args:
            lightness: (h, w), small.
            chroma: (2, h, w) at the same size.
            radius: of the windows.
            epsilon: variance of lightness below which a change counts as none.
        """
        mean = box_mean(lightness, radius)
        means = np.stack([box_mean(plane, radius) for plane in chroma])
        both = np.stack([box_mean(plane * lightness, radius) for plane in chroma])
        variance = box_mean(lightness * lightness, radius) - mean * mean
        slope = (both - means * mean) / (variance + np.float32(epsilon))
        offset = means - slope * mean
        return cls(
            np.stack([box_mean(plane, radius) for plane in slope]),
            np.stack([box_mean(plane, radius) for plane in offset]),
        )

    def chroma(self, lightness: Values, rows: Values, columns: Values) -> tuple[Values, Values]:
        """Return a* and b* for a strip of the picture.

        Args:
            lightness: (strip, w).
            rows: (strip, small h), as ``between`` returns it, those of the strip.
            columns: (w, small w).
        """
        slope = [rows @ (plane @ columns.T) for plane in self.slope]
        offset = [rows @ (plane @ columns.T) for plane in self.offset]
        a, b = (s * lightness + o for s, o in zip(slope, offset, strict=True))
        return a, b


def between(small: int, large: int) -> Values:
    """Return the (large, small) matrix that enlarges a line by linear interpolation."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.minimum(place.astype(np.int64), max(0, small - 2))
    part = (place - low).astype(np.float32)
    matrix = np.zeros((large, small), np.float32)
    index = np.arange(large)
    matrix[index, low] = 1 - part
    matrix[index, np.minimum(low + 1, small - 1)] += part
    return matrix


def averaging(large: int, small: int) -> Values:
    """Return the (small, large) matrix that reduces a line by the mean of what each place covers.

    Where there is less than there should be, it is enlarged by linear interpolation.
    """
    if large < small:
        return between(large, small)
    edges = np.arange(small + 1) * large / small
    pixel = np.arange(large)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(covered, 0, 1) * small / large, np.float32)
