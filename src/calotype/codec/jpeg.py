"""JPEG straight through libjpeg-turbo, for files that need nothing of what libvips adds.

libvips sets up a pipeline of threads for every file. For a photograph of 512 x 512 pixels that
costs three times what the decoding does; the pixels are the same, bit for bit.

Only reading: of what writes JPEG without libvips, simplejpeg takes a DCT that costs 0.1 dB, and
Pillow keeps all other threads from running meanwhile.
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator

import simplejpeg

from calotype.codec.colour import moves_nothing
from calotype.codec.metadata import orientation
from calotype.codec.vips import FAILURES, set_up
from calotype.domain.image import RGB, Pixels, Size

_START, _SCAN = b"\xff\xd8", 0xDA
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_WITH_LENGTH = FRAMES | {0xC4, 0xCC, _SCAN, 0xFE} | set(range(0xDB, 0xF0))
"""Markers that a length follows. Others, and bytes that fill up, are libjpeg's matter: what reads
them in another way than libjpeg is told another size by a file that is made for it."""
_MAX_SEGMENTS = 100
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
        found = list(segments(upload))
        frames = [segment for segment in found if segment[0] in FRAMES]
        if len(frames) != 1 or any(map(_matters, _told_of_pixels(found))):
            return None
        return _frame_size(*frames[0], scan=found[-1][1])
    except (struct.error, ValueError, IndexError):
        return None


def decode(upload: bytes, size: Size) -> Pixels:
    """Decode a JPEG to (h, w, 3) uint8 RGB.

    Args:
        upload: the whole file.
        size: what ``plain_size`` tells of it; seen to be right before any memory is taken.

    Raises:
        ValueError: it is damaged, cut off, or of another size.
    """
    height, width, *_ = simplejpeg.decode_jpeg_header(upload)
    if (height, width) != (size.height_px, size.width_px):
        raise ValueError(f"the header says {width}x{height}, not {size}")
    pixels: Pixels = simplejpeg.decode_jpeg(upload, "RGB")
    return pixels


def segments(upload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of all up to the head of the first scan.

    Raises:
        struct.error: it ends before that.
        ValueError: something else than a segment stands there, or too many do.
    """
    place = len(_START)
    for _ in range(_MAX_SEGMENTS):
        mark, marker, length = struct.unpack_from(">BBH", upload, place)
        if mark != 0xFF or marker not in _WITH_LENGTH or length < 2:  # noqa: PLR2004  its own bytes
            raise ValueError("no segment")
        yield marker, upload[place + 4 : place + 2 + length]
        if marker == _SCAN:
            return
        place += 2 + length
    raise ValueError("too many segments")


def _frame_size(marker: int, content: bytes, *, scan: bytes) -> Size | None:
    """Return the size that a frame's header tells, if it is of a kind that is read here.

    Its one scan must hold all components: of others, and of progressive ones, there may be any
    number, which takes time without end, and libvips refuses too many.
    """
    bits, height, width, bands = struct.unpack_from(">BHHB", content)
    is_known = marker in _SEQUENTIAL and bits == _BITS and bands in (_GRAY, RGB)
    is_whole = scan[0] == bands and height > 0 and width > 0
    return Size(height_px=height, width_px=width) if is_known and is_whole else None


def _told_of_pixels(told: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return what says how the picture lies, and what its colours mean.

    Raises:
        ValueError: one of these is there more than once.
    """
    found = [
        (marker, content)
        for marker, content in told
        if (marker == _EXIF and content.startswith(_EXIF_MARK))
        or (marker == _ICC and content.startswith(_ICC_MARK))
    ]
    if len({marker for marker, _ in found}) < len(found):
        raise ValueError("told twice")
    return found


def _matters(segment: tuple[int, bytes]) -> bool:
    """Tell whether a segment turns the picture, or changes its colours."""
    marker, content = segment
    return orientation(content) != 1 if marker == _EXIF else not _keeps_colours(content)


def _keeps_colours(content: bytes) -> bool:
    """Tell whether a segment holds a whole profile which moves no colour: sRGB, most often."""
    rest = content[len(_ICC_MARK) :]
    with contextlib.suppress(*FAILURES):
        set_up()
        return rest.startswith(_ONE_OF_ONE) and moves_nothing(rest[len(_ONE_OF_ONE) :])
    return False
