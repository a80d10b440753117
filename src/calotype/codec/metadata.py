"""What a picture says about itself, apart from its pixels."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyvips

from calotype.codec.vips import VipsImage

_EXIF_MARK = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")
_FIELDS = {"exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The blocks a file carries next to its pixels; they say the pixels are upright."""

    exif: bytes | None = None
    """TIFF structure, with or without the ``Exif`` mark before it; orientation is 1."""
    xmp: bytes | None = None
    """An XML packet."""
    iptc: bytes | None = None
    """An IPTC-IIM block, as JPEG's APP13 holds it."""


def read(image: VipsImage) -> Metadata:
    """Return what a loaded image carries, orientation set to upright.

    Args:
        image: as a libvips loader made it.
    """
    exif, xmp, iptc = (
        image.get(field) if image.get_typeof(field) else None for field in _FIELDS.values()
    )
    return Metadata(
        exif=upright_exif(exif) if exif else None,
        xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else None,
        iptc=iptc or None,
    )


def attach(image: VipsImage, metadata: Metadata) -> VipsImage:
    """Return a copy of the image that carries the metadata, for a libvips saver to write."""
    carrier = image.copy()
    for name, field in _FIELDS.items():
        block = getattr(metadata, name)
        if block is not None:
            carrier.set_type(pyvips.GValue.blob_type, field, block)
    return carrier


def upright_exif(exif: bytes) -> bytes | None:
    """Return an EXIF block with its orientation set to 1, or None if it cannot be read.

    Args:
        exif: TIFF structure, with or without the ``Exif`` mark before it.
    """
    upright = bytearray(exif)
    try:
        for order, entry in _orientations(exif):
            struct.pack_into(f"{order}HHIHH", upright, entry, _ORIENTATION_TAG, _SHORT, 1, 1, 0)
    except (struct.error, ValueError):
        return None
    return bytes(upright)


def orientation(exif: bytes) -> int | None:
    """Return how a picture is turned, 1..8; 1 if nothing is said; None if it cannot be read.

    Args:
        exif: TIFF structure, with or without the ``Exif`` mark before it.
    """
    try:
        entries = [
            struct.unpack_from(f"{o}HHIH", exif, entry)[1:] for o, entry in _orientations(exif)
        ]
    except (struct.error, ValueError):
        return None
    if not entries:
        return 1
    kind, count, value = entries[0]
    return int(value) if len(entries) == 1 and (kind, count) == (_SHORT, 1) else None


def _orientations(exif: bytes) -> Iterator[tuple[str, int]]:
    """Yield byte order and place of each entry that says how the picture is turned.

    Raises:
        struct.error: the block is cut off.
        ValueError: it is none.

    Source:
        TIFF 6.0, section 2: header, then a directory of 12-byte entries (tag, type, count, value).
    """
    start = len(_EXIF_MARK) if exif.startswith(_EXIF_MARK) else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        raise ValueError("no EXIF block")
    (offset,) = struct.unpack_from(f"{order}I", exif, start + 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start + offset)
    for entry in range(start + offset + 2, start + offset + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", exif, entry) == (_ORIENTATION_TAG,):
            yield order, entry
