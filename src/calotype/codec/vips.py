"""The border to libvips: set it up once, and move arrays in and out without copies of our own."""

import functools
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

VipsImage = Any
"""A ``pyvips.Image``; the library ships no types."""

VipsTarget = Any
"""A ``pyvips.Target``: where a file is written to."""

FAILURES = (pyvips.Error, UnicodeDecodeError)
"""What a libvips call raises: its error text may quote bytes of the upload that are no UTF-8."""


@functools.cache
def set_up() -> None:
    """Make libvips safe for uploads and flat in memory; every entry point of ``codec`` calls it.

    Loaders and savers libvips marks as untrusted are shut, so no path through a library that was
    never fuzzed can open. Its cache of operations is off: it would keep pixels of past requests.
    """
    pyvips.block_untrusted_set(True)
    pyvips.cache_set_max(0)


def to_vips(array: NDArray[np.uint8]) -> VipsImage:
    """Wrap an array as a libvips image, without copying it if it is C-contiguous.

    Args:
        array: (h, w, 3) RGB, (h, w, 4) RGBA or (h, w) uint8; must not change while in use.

    Returns:
        An image of as many bands, marked as sRGB, or as gray when it has one band.
    """
    height, width, *bands = array.shape
    image = pyvips.Image.new_from_memory(
        np.ascontiguousarray(array), width, height, bands[0] if bands else 1, "uchar"
    )
    return image.copy(interpretation="srgb" if bands else "b-w")


def to_array(image: VipsImage) -> NDArray[np.uint8]:
    """Compute a libvips image into memory of its own.

    Args:
        image: 8 bit, any number of bands.

    Returns:
        (h, w, bands) uint8, C-contiguous, or (h, w) for one band.
    """
    flat = np.frombuffer(image.write_to_memory(), dtype=np.uint8)
    if image.bands == 1:
        return flat.reshape(image.height, image.width)
    return flat.reshape(image.height, image.width, image.bands)
