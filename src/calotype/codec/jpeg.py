"""JPEG straight through libjpeg-turbo, for files that need nothing of what libvips adds.

libvips sets up a pipeline of threads for every file. For a photograph of 512 x 512 pixels that
costs three times what the decoding does; the pixels are the same, bit for bit.

Only reading: of what writes JPEG without libvips, simplejpeg takes a DCT that costs 0.1 dB, and
Pillow keeps all other threads from running meanwhile.
"""

import contextlib
import struct
from collections.abc import Iterator

import simplejpeg

from calotype.codec.colour import moves_nothing
from calotype.codec.metadata import orientation
from calotype.codec.vips import FAILURES, set_up
from calotype.domain.image import RGB, Pixels, Size

_START, _START_OF_SCAN = b"\xff\xd8", 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
"""Frames with one scan a component at most: a progressive one may have any number, which costs time
without end, and libvips refuses too many."""
_EXIF, _ICC = 0xE1, 0xE2
_EXIF_MARK, _ICC_MARK = b"Exif\0\0", b"ICC_PROFILE\0"
_ONE_OF_ONE = b"\x01\x01"
_BITS, _GRAY = 8, 1


def plain_size(upload: bytes) -> Size | None:
    """Return the size of a JPEG whose pixels are right as they are decoded, else None.

    That is one of 8 bits, gray or of three colours, sequential, upright, and without a profile that
    would change its colours. What is damaged is None too: libvips says what is wrong with it.

    Source:
        ITU-T T.81, annex B; ICC.1, annex B.4, for profiles.
    """
    try:
        segments = list(_segments(upload))
        frames = [segment for segment in segments if segment[0] in _FRAMES]
        if len(frames) != 1 or any(_matters(*segment) for segment in segments):
            return None
        return _frame_size(*frames[0])
    except (struct.error, ValueError):
        return None


def decode(upload: bytes) -> Pixels:
    """Decode a JPEG to (h, w, 3) uint8 RGB.

    Raises:
        ValueError: it is damaged, or cut off.
    """
    pixels: Pixels = simplejpeg.decode_jpeg(upload, "RGB")
    return pixels


def _segments(upload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of what stands before the first scan.

    Raises:
        struct.error: it ends before that.
        ValueError: something else than a segment stands there.
    """
    place = len(_START)
    while True:
        mark, marker, length = struct.unpack_from(">BBH", upload, place)
        if mark != 0xFF or length < 2:  # noqa: PLR2004  the length counts itself
            raise ValueError("no segment")
        if marker == _START_OF_SCAN:
            return
        yield marker, upload[place + 4 : place + 2 + length]
        place += 2 + length


def _frame_size(marker: int, content: bytes) -> Size | None:
    """Return the size that a frame's header tells, if it is of a kind that is read here."""
    bits, height, width, bands = struct.unpack_from(">BHHB", content)
    is_known = marker in _SEQUENTIAL and bits == _BITS and bands in (_GRAY, RGB)
    return Size(height_px=height, width_px=width) if is_known and height and width else None


def _matters(marker: int, content: bytes) -> bool:
    """Tell whether a segment turns the picture, or changes its colours."""
    if marker == _EXIF and content.startswith(_EXIF_MARK):
        return orientation(content) != 1
    return marker == _ICC and content.startswith(_ICC_MARK) and not _keeps_colours(content)


def _keeps_colours(content: bytes) -> bool:
    """Tell whether a segment holds a whole profile which moves no colour: sRGB, most often."""
    rest = content[len(_ICC_MARK) :]
    with contextlib.suppress(*FAILURES):
        set_up()
        return rest.startswith(_ONE_OF_ONE) and moves_nothing(rest[len(_ONE_OF_ONE) :])
    return False
