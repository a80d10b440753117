"""sRGB and CIE L*a*b* (D65, 2 degrees) as tensors, and the cells of ab that the network names.

Source: IEC 61966-2-1 for sRGB, CIE 15 for L*a*b*; the classes of colour, their rebalancing and the
annealed mean are those of Zhang, Isola and Efros, "Colorful Image Colorization" (2016).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPACING = 10
"""Distance of two neighbouring cells of colour, in units of a* and b*."""

_XYZ_OF_RGB = torch.tensor(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _XYZ_OF_RGB.sum(1)
_DELTA = 6 / 29


def lab_of_rgb(rgb: Tensor) -> Tensor:
    """Return L*a*b* of (..., 3, h, w) sRGB in 0..1: L* in 0..100, a* and b* in about -110..110."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = (_XYZ_OF_RGB / _WHITE[:, None]).to(rgb)
    xyz = torch.einsum("ij,...jhw->...ihw", matrix, linear)
    f = torch.where(xyz > _DELTA**3, xyz.clamp_min(1e-9) ** (1 / 3), xyz / (3 * _DELTA**2) + 4 / 29)
    x, y, z = f.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def rgb_of_lab(lab: Tensor) -> Tensor:
    """Return sRGB of (..., 3, h, w) L*a*b*, not clipped to 0..1 above, nor below."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], -3)
    xyz = torch.where(f > _DELTA, f**3, 3 * _DELTA**2 * (f - 4 / 29))
    matrix = torch.linalg.inv(_XYZ_OF_RGB / _WHITE[:, None]).to(lab)
    linear = torch.einsum("ij,...jhw->...ihw", matrix, xyz)
    curve = 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)


class Cells:
    """The cells of colour that occur, and for each whole (a*, b*) its four nearest with shares.

    A colour is the mean of its four cells weighted by its shares (bilinear), so the mean of a
    perfect prediction is the colour itself, not the middle of a cell.
    """

    def __init__(self, counts: NDArray[np.int64], *, least_share: float, uniform: float) -> None:
        """Choose the cells.

        Args:
            counts: (256, 256), how often each whole (a* + 128, b* + 128) occurs in the data.
            least_share: a cell that holds a smaller share of all colours is left out.
            uniform: share of the uniform distribution in what the weights balance against
                (lambda of the paper): 1 means no rebalancing.
        """
        near, share = _corners()
        flat = counts.reshape(-1).astype(np.float64)
        mass = np.zeros(_SIDE * _SIDE)
        for corner in range(4):
            np.add.at(mass, near[:, corner], share[:, corner] * flat)
        kept = np.flatnonzero(mass / mass.sum() >= least_share)
        centre = (np.stack([kept // _SIDE, kept % _SIDE], 1) - _HALF) * SPACING
        self.centres = torch.tensor(centre, dtype=torch.float32)
        """(n, 2): a* and b* of each cell."""
        grid = (np.stack(np.divmod(np.arange(_SIDE * _SIDE), _SIDE), 1) - _HALF) * SPACING
        distance = ((grid[:, None] - centre[None]) ** 2).sum(-1)
        nearest = distance.argmin(1)
        self.index = torch.tensor(nearest[near], dtype=torch.int64)
        """(65536, 4): cells of the colour (a* + 128) * 256 + b* + 128."""
        self.share = torch.tensor(share, dtype=torch.float32)
        """(65536, 4): their shares, which sum to 1."""
        prior = mass[kept] / mass[kept].sum()
        weight = 1 / ((1 - uniform) * prior + uniform / len(kept))
        weight /= (prior * weight).sum()
        self.weight = torch.tensor(weight, dtype=torch.float32)
        """(n,): weight of each cell in the loss; 1 on average over the data."""

    def to(self, device: str) -> "Cells":
        """Move to a device, in place."""
        for name in ("centres", "index", "share", "weight"):
            setattr(self, name, getattr(self, name).to(device))
        return self


_HALF = 13
_SIDE = 2 * _HALF + 1


def _corners() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The four grid points around each whole colour, and its bilinear shares of them."""
    a, b = np.divmod(np.arange(256 * 256), 256)
    position = (np.stack([a, b], 1) - 128) / SPACING + _HALF
    low = np.floor(position).astype(np.int64)
    part = position - low
    points, shares = [], []
    for da in (0, 1):
        for db in (0, 1):
            points.append((low[:, 0] + da) * _SIDE + low[:, 1] + db)
            in_a = part[:, 0] if da else 1 - part[:, 0]
            in_b = part[:, 1] if db else 1 - part[:, 1]
            shares.append(in_a * in_b)
    return np.stack(points, 1), np.stack(shares, 1)
