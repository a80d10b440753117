"""From an uploaded file to upright sRGB pixels, trusting nothing in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

import pyvips

from calotype.codec import jpeg
from calotype.codec.colour import has_alpha, to_srgb
from calotype.codec.metadata import Metadata, read
from calotype.codec.vips import FAILURES, VipsImage, set_up, to_array
from calotype.domain.image import RGB, Image, Size
from calotype.errors import BadImageError, PayloadTooLargeError

FileFormat = Literal["jpeg", "png", "webp", "gif", "tiff", "avif"]
"""What Calotype reads."""

# Naming the loader leaves libvips no choice: whatever the bytes claim, no other can open them.
_LOADERS: dict[FileFormat, str] = {
    "jpeg": "jpegload",
    "png": "pngload",
    "webp": "webpload",
    "gif": "gifload",
    "tiff": "tiffload",
    "avif": "heifload",
}
_MAGIC: tuple[tuple[bytes, FileFormat], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
)
_BITS = {"uchar": 8, "ushort": 16, "float": 32, "double": 64}
_MAX_BANDS = 5
"""CMYK and alpha."""
_TURNED = range(5, 9)
"""EXIF orientations that swap width and height."""
_UNREADABLE = "cannot identify image file"
HEAD_BYTES = 256
"""Of a file, enough to tell its format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says before any pixel of it is decoded."""

    format: FileFormat
    size: Size
    """Upright: after the EXIF turn."""
    has_alpha: bool
    frames: int
    """Frames of an animation, pages of a TIFF; only the first is ever decoded."""
    bits: int
    """Per sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A file's first picture, and what came with it."""

    image: Image
    header: Header
    metadata: Metadata | None
    """None unless asked for."""


def sniff(upload: bytes) -> FileFormat | None:
    """Name the format of a file by its first bytes, or return None for one we don't read."""
    for magic, name in _MAGIC:
        if upload.startswith(magic):
            return name
    if upload[:4] == b"RIFF" and upload[8:12] == b"WEBP":
        return "webp"
    return "avif" if upload[4:8] == b"ftyp" and b"avif" in _brands(upload) else None


def probe(upload: bytes, max_pixels: int) -> Header:
    """Read a file's header; no pixel is decoded.

    Args:
        upload: the whole file.
        max_pixels: most pixels, width times height, that are let through.

    Raises:
        BadImageError: not one of the six formats, or the header is damaged: the caller's fault.
        PayloadTooLargeError: more pixels than allowed: the caller's fault.
    """
    return _open_bytes(upload, max_pixels)[1]


def decode(upload: bytes, max_pixels: int, *, keep_metadata: bool = False) -> Decoded:
    """Decode the first picture of a file to upright 8-bit sRGB.

    Args:
        upload: the whole file.
        max_pixels: most pixels, width times height, that are let through.
        keep_metadata: whether to return EXIF, XMP and IPTC too.

    Raises:
        BadImageError: not an image we read, or one that is cut off or damaged: the caller's fault.
        PayloadTooLargeError: more pixels than allowed, seen before any is decoded.
    """
    if not keep_metadata and (decoded := _decode_plain(upload, max_pixels)) is not None:
        return decoded
    loaded, header = _open_bytes(upload, max_pixels)
    with reading(header.format, "data"):
        image = _render(to_srgb(loaded))
        metadata = read(loaded) if keep_metadata else None
    return Decoded(image=image, header=header, metadata=metadata)


def _decode_plain(upload: bytes, max_pixels: int) -> Decoded | None:
    """Decode a JPEG for which libvips isn't needed; None for everything else.

    Raises:
        PayloadTooLargeError: more pixels than allowed.
    """
    if sniff(upload) != "jpeg" or (size := jpeg.plain_size(upload)) is None:
        return None
    _check_pixels(size, max_pixels)
    try:
        image = Image(jpeg.decode(upload, size))
    except ValueError:
        return None  # libvips says what is wrong, or reads it all the same
    header = Header(format="jpeg", size=size, has_alpha=False, frames=1, bits=8)
    return Decoded(image=image, header=header, metadata=None)


def _brands(upload: bytes) -> tuple[bytes, ...]:
    """Return an ISO media file's brands: avif is the major one, or one it is compatible with."""
    end = min(int.from_bytes(upload[:4], "big"), HEAD_BYTES)
    return tuple(upload[start : start + 4] for start in (8, *range(16, end, 4)))


def open_file(file: BinaryIO, max_pixels: int) -> tuple[VipsImage, Header]:
    """Open a file to be read from top to bottom; no pixel is decoded.

    Args:
        file: unbuffered, at its beginning; must stay open while the image is read.
        max_pixels: most pixels, width times height, that are let through.

    Raises:
        BadImageError: not one of the six formats, or the header is damaged: the caller's fault.
        PayloadTooLargeError: more pixels than allowed: the caller's fault.
        OSError: the file can't be read.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return _open(head, "source", pyvips.Source.new_from_descriptor(file.fileno()), max_pixels)


def _open_bytes(upload: bytes, max_pixels: int) -> tuple[VipsImage, Header]:
    return _open(upload, "buffer", upload, max_pixels)


def _open(head: bytes, form: str, content: object, max_pixels: int) -> tuple[VipsImage, Header]:
    """Open what begins so, in one of the forms that libvips' loaders take."""
    set_up()
    kind = sniff(head)
    if kind is None:
        raise BadImageError(f"{_UNREADABLE}: not a JPEG, PNG, WebP, GIF, TIFF or AVIF file")
    with reading(kind, "header"):
        # Top to bottom in one pass; a damaged or cut-off body is an error, not a gray half.
        loaded = pyvips.Operation.call(
            f"{_LOADERS[kind]}_{form}", content, access="sequential", fail_on="error"
        )
        header = _header(loaded, kind)
    _check_pixels(header.size, max_pixels)
    if loaded.format not in _BITS or loaded.bands > _MAX_BANDS or loaded.coding != "none":
        raise BadImageError(
            f"{_UNREADABLE}: {loaded.bands} channels of {loaded.format} samples are not supported"
        )
    return loaded, header


def _check_pixels(size: Size, max_pixels: int) -> None:
    """Refuse a picture that is too large.

    Raises:
        PayloadTooLargeError: it has more pixels than allowed.
    """
    if size.pixels > max_pixels:
        raise PayloadTooLargeError(
            f"image has {size.pixels} pixels ({size}), the limit is {max_pixels}"
        )


def _header(loaded: VipsImage, format: FileFormat) -> Header:
    height, width = loaded.height, loaded.width
    if _number(loaded, "orientation", 1) in _TURNED:
        height, width = width, height
    return Header(
        format=format,
        size=Size(height_px=height, width_px=width),
        has_alpha=has_alpha(loaded),
        frames=_number(loaded, "n-pages", 1),
        bits=_number(loaded, "bits-per-sample", _BITS.get(loaded.format, 32)),
    )


def _number(loaded: VipsImage, field: str, default: int) -> int:
    return int(loaded.get(field)) if loaded.get_typeof(field) else default


def _render(srgb: VipsImage) -> Image:
    """Compute pixels: 8-bit sRGB of 3 or 4 bands, read once from top to bottom."""
    image = upright(srgb)
    if image.bands == RGB:
        return Image(to_array(image))
    return Image(to_array(image.extract_band(0, n=RGB)), to_array(image.extract_band(RGB)))


def upright(srgb: VipsImage) -> VipsImage:
    """Turn a picture as its EXIF says; one of 3 bands that is upright stays to be read only once.

    Raises:
        pyvips.Error: the file is cut off or damaged.
    """
    if _number(srgb, "orientation", 1) == 1 and srgb.bands == RGB:
        return srgb
    # Turning, and taking colour and alpha apart, read the picture in another order, or twice.
    return srgb.copy_memory().autorot()


@contextmanager
def reading(format: FileFormat, part: str) -> Iterator[None]:
    """Translate what libvips raises; its own text, shared by all threads, stays out of answers.

    Raises:
        BadImageError: libvips failed: the file is damaged.
    """
    try:
        yield
    except FAILURES as exc:
        raise BadImageError(
            f"{_UNREADABLE}: the {part} of this {format.upper()} file is cut off or damaged"
        ) from exc
