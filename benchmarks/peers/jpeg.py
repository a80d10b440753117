"""The codec of all peers but one: libvips with the options that ``calotype.codec`` gives it.

Runs in the peers' environments; needs pyvips and NumPy.
"""

import numpy as np
import pyvips
from numpy.typing import NDArray

QUALITY = 90


def set_up() -> None:
    """Set up libvips, once a process, as ``calotype.codec`` does."""
    pyvips.block_untrusted_set(True)
    pyvips.cache_set_max(0)


def decode(body: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG: (h, w, 3)."""
    image = pyvips.Operation.call("jpegload_buffer", body, access="sequential", fail_on="error")
    flat = np.frombuffer(image.write_to_memory(), np.uint8)
    return flat.reshape(image.height, image.width, image.bands)


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode as a JPEG."""
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    body: bytes = image.copy(interpretation="srgb").jpegsave_buffer(keep="none", Q=QUALITY)
    return body
