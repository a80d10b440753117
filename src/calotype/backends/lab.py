"""L*a*b* of sRGB pixels and back, keeping L*; CIE 15 and IEC 61966-2-1, white D65.

Written for whole photographs: tables in place of powers, and float32 throughout.
"""

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from calotype.domain.image import Pixels

Values: TypeAlias = NDArray[np.float32]

_XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _XYZ_OF_RGB.sum(1)
_RGB_OF_XYZ = np.linalg.inv(_XYZ_OF_RGB / _WHITE[:, None]).astype(np.float32)
_LUMINANCE = (_XYZ_OF_RGB[1] / _WHITE[1]).astype(np.float32)
_DELTA = 6 / 29
_STRAIGHT = 0.0031308
"""Linear light up to which the curve of sRGB is a straight line."""
_CURVE_STEPS = 1 << 14
"""Entries of the table from linear light to sRGB: no two are a quarter of a level apart."""
_HALVINGS = 7
"""How finely colours that no screen shows are brought back: to 1/128 of their chroma."""
_OUTSIDE = np.float32(1e-3)
"""Linear light this far out of 0..1 is clipped without harm."""


def lightness_of(pixels: Pixels) -> Values:
    """Return L*, 0..100, of (h, w, 3) uint8 sRGB: (h, w) float32."""
    linear = _linear_of_levels()
    luminance = linear[pixels[:, :, 0]] * _LUMINANCE[0]
    luminance += linear[pixels[:, :, 1]] * _LUMINANCE[1]
    luminance += linear[pixels[:, :, 2]] * _LUMINANCE[2]
    root = np.cbrt(np.maximum(luminance, np.float32(_DELTA**3)))
    low = luminance * np.float32(1 / (3 * _DELTA**2)) + np.float32(4 / 29)
    f = np.where(luminance > np.float32(_DELTA**3), root, low)
    return np.asarray(116 * f - 16, np.float32)


def pixels_of(lightness: Values, a: Values, b: Values) -> Pixels:
    """Return the (h, w, 3) uint8 sRGB picture of L*, a*, b*, each (h, w).

    A colour that sRGB doesn't have loses as much chroma as it takes; its L* stays.
    """
    linear = _linear_rgb(lightness, a, b)
    low, high = linear.min(axis=0), linear.max(axis=0)
    outside = (low < -_OUTSIDE) | (high > 1 + _OUTSIDE)
    if outside.any():
        linear[:, outside] = _brought_back(lightness[outside], a[outside], b[outside])
    np.clip(linear, 0, 1, out=linear)
    linear *= _CURVE_STEPS - 1
    linear += np.float32(0.5)
    levels = _levels_of_linear()[linear.astype(np.uint16)]
    return np.ascontiguousarray(np.moveaxis(levels, 0, 2))


def _linear_rgb(lightness: Values, a: Values, b: Values) -> Values:
    """Return linear light (3, ...), which may be out of 0..1."""
    y = (lightness + 16) * np.float32(1 / 116)
    xyz = [_cubed(f) for f in (y + a * np.float32(1 / 500), y, y - b * np.float32(1 / 200))]
    rows = [
        sum(np.float32(k) * part for k, part in zip(row, xyz, strict=True)) for row in _RGB_OF_XYZ
    ]
    return np.stack(rows).astype(np.float32, copy=False)


def _cubed(f: Values) -> Values:
    """Undo the cube root, and the straight line that stands for it near black."""
    line = np.float32(3 * _DELTA**2) * (f - np.float32(4 / 29))
    return np.where(f > np.float32(_DELTA), f * f * f, line)


def _brought_back(lightness: Values, a: Values, b: Values) -> Values:
    """Return linear light (3, n) of the colours with the most chroma that sRGB has."""
    fits, too_much = np.zeros(a.shape, np.float32), np.ones(a.shape, np.float32)
    for _ in range(_HALVINGS):
        share = np.asarray((fits + too_much) / 2, np.float32)
        linear = _linear_rgb(lightness, a * share, b * share)
        inside = (linear.min(axis=0) >= -_OUTSIDE) & (linear.max(axis=0) <= 1 + _OUTSIDE)
        fits, too_much = np.where(inside, share, fits), np.where(inside, too_much, share)
    return _linear_rgb(lightness, a * fits, b * fits)


@cache
def _linear_of_levels() -> Values:
    """Linear light of the 256 levels of sRGB."""
    level = np.arange(256) / 255
    power = ((level + 0.055) / 1.055) ** 2.4
    return np.where(level <= 12.92 * _STRAIGHT, level / 12.92, power).astype(np.float32)


@cache
def _levels_of_linear() -> NDArray[np.uint8]:
    """Levels of sRGB, rounded to nearest, of linear light in equal steps."""
    linear = np.arange(_CURVE_STEPS) / (_CURVE_STEPS - 1)
    curve = np.where(linear <= _STRAIGHT, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.floor(curve * 255 + 0.5), np.uint8)
