"""How large a picture is, as far as the first bytes of its file tell; without libvips."""

import struct

from calotype.codec import jpeg
from calotype.domain.image import Size

GLANCE_BYTES = 128 * 1024
"""Of a file; in front of a JPEG's frame stand EXIF, with a thumbnail, and profiles."""


def glance(head: bytes) -> Size | None:
    """Return the size that a JPEG, PNG or WebP file tells, before any turn; None if unknown.

    Good for choosing a path, not for trusting: nothing is checked.

    Args:
        head: the first bytes of the file.

    Source:
        ITU-T T.81, annex B; PNG, third edition, 11.2.1; WebP container specification, and RFC 6386,
        9.1.
    """
    try:
        width, height = _jpeg(head) or _png(head) or _webp(head) or (0, 0)
        return Size(height_px=height, width_px=width)
    except (struct.error, ValueError):
        return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    if not head.startswith(b"\xff\xd8"):
        return None
    frames = (content for marker, content in jpeg.segments(head) if marker in jpeg.FRAMES)
    height, width = struct.unpack_from(">xHH", next(frames, b""))
    return width, height


def _png(head: bytes) -> tuple[int, int] | None:
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            low = struct.unpack_from("<HBHB", head, 24)
            return 1 + low[0] + (low[1] << 16), 1 + low[2] + (low[3] << 16)
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None
