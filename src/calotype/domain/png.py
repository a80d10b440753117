"""PNG files written row by row, without filters: for pictures that no user keeps.

Source: Portable Network Graphics, third edition, W3C 2025, sections 5, 7 and 11.
"""

import struct
import zlib

import numpy as np

from calotype.domain.image import RGB, Pixels, Size

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BITS, _TRUECOLOUR = 8, 2


class PngWriter:
    """Writes one picture: ``head``, then ``rows`` until all are there, then ``end``.

    Args:
        size: of the picture.
        effort: zlib's level; 0 doesn't compress.
    """

    def __init__(self, size: Size, effort: int) -> None:
        self._size, self._zlib = size, zlib.compressobj(effort)

    def head(self) -> bytes:
        """Return how the file begins."""
        width, height = self._size.width_px, self._size.height_px
        head = struct.pack("!IIBBBBB", width, height, _BITS, _TRUECOLOUR, 0, 0, 0)
        return _SIGNATURE + _chunk(b"IHDR", head)

    def rows(self, pixels: Pixels) -> bytes:
        """Return the next rows, or what of them is ready.

        Args:
            pixels: (rows, w, 3) uint8.
        """
        rows = len(pixels)
        filtered = np.zeros((rows, 1 + RGB * self._size.width_px), np.uint8)  # 0: no filter
        filtered[:, 1:] = pixels.reshape(rows, -1)
        return _data(self._zlib.compress(filtered.data))

    def end(self) -> bytes:
        """Return how the file ends."""
        return _data(self._zlib.flush()) + _chunk(b"IEND", b"")


def _data(compressed: bytes) -> bytes:
    return _chunk(b"IDAT", compressed) if compressed else b""


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack("!I", len(data)), kind, data, struct.pack("!I", check)))
