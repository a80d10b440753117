"""From pixels to the bytes of a PNG, JPEG or WebP file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calotype.codec.metadata import Metadata, attach
from calotype.codec.vips import FAILURES, VipsImage, VipsTarget, set_up, to_vips
from calotype.domain.image import Image, Size
from calotype.domain.request import ImageFormat
from calotype.errors import InvalidParameterError

_LOSSLESS_QUALITY = 100
_OPAQUE = 255
_KEPT = "exif|xmp|iptc"
_MAX_SIDE_PX: dict[ImageFormat, int] = {"jpeg": 65500, "webp": 16383}
"""libjpeg's ``JPEG_MAX_DIMENSION``, and WebP's 14 bits; PNG has no bound that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """How hard to press; the same for every answer of a server."""

    jpeg_quality: int = 90
    """1..100; from 90 on, colour is kept at full resolution (4:4:4)."""
    webp_quality: int = 90
    """1..100; 100 is lossless."""
    png_effort: int = 4
    """0 no compression .. 9 smallest and slowest; PNG loses nothing at any."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("jpeg_quality", 1, 100),
            ("webp_quality", 1, _LOSSLESS_QUALITY),
            ("png_effort", 0, 9),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {value}")


def encode(
    image: Image, format: ImageFormat, options: EncodeOptions, metadata: Metadata | None = None
) -> bytes:
    """Write an image as a file.

    Args:
        image: alpha is kept, but in JPEG, where the picture is laid on white.
        format: what to write.
        options: how hard to press.
        metadata: EXIF, XMP and IPTC to carry over; None writes no metadata at all.

    Raises:
        InvalidParameterError: a side is longer than the format allows: the caller's fault.
    """
    set_up()
    fitting((format,), image.size)
    vips = to_vips(image.pixels)
    if image.alpha is not None:
        vips = vips.bandjoin(to_vips(image.alpha))
        if format == "jpeg":
            vips = vips.flatten(background=[255, 255, 255])
    body: bytes = _save(vips, format, options, metadata, "buffer")
    return body


def save_to(
    target: VipsTarget,
    vips: VipsImage,
    format: ImageFormat,
    options: EncodeOptions,
    metadata: Metadata | None = None,
) -> None:
    """Write an image that need not be whole in memory, as ``encode`` does.

    Args:
        target: where to write to.
        vips: 3 bands of 8-bit sRGB; read once, from top to bottom.
        format: PNG or JPEG; what writes WebP needs the whole picture.
        options: how hard to press.
        metadata: EXIF, XMP and IPTC to carry over; None writes no metadata at all.
    """
    _save(vips, format, options, metadata, "target", target)


def unrepresentable(image: Image, format: ImageFormat) -> str | None:
    """Say in one sentence what of the image the format cannot hold, or None if it holds all."""
    if format == "jpeg" and image.alpha is not None and image.alpha.min() < _OPAQUE:
        return "jpeg has no transparency: the picture is laid on white"
    return None


def keeps_pixels(format: ImageFormat, options: EncodeOptions) -> bool:
    """Tell whether what is written is what will be read, bit for bit."""
    lossless = options.webp_quality == _LOSSLESS_QUALITY
    return format == "png" or (format == "webp" and lossless)


def fitting(formats: Sequence[ImageFormat], size: Size) -> ImageFormat:
    """Return the first format that can hold a picture of that size.

    Raises:
        InvalidParameterError: none can: the caller's fault.
    """
    longest = max(size.width_px, size.height_px)
    for name in formats:
        if longest <= _MAX_SIDE_PX.get(name, longest):
            return name
    limits = " and ".join(f"{name} at most {_MAX_SIDE_PX[name]}" for name in formats)
    raise InvalidParameterError(
        f"output_format must be png for a picture of {size}: {limits} pixels a side"
    )


def _takes(format: ImageFormat, metadata: Metadata) -> bool:
    """Tell whether a format takes metadata, by writing one pixel with it.

    A block too long for it, or one libexif chokes on, must not cost the answer.
    """
    pixel = attach(to_vips(np.zeros((1, 1, 3), np.uint8)), metadata)
    try:
        getattr(pixel, f"{format}save_buffer")(keep=_KEPT)
    except FAILURES:
        return False
    return True


def _save(
    vips: VipsImage,
    format: ImageFormat,
    options: EncodeOptions,
    metadata: Metadata | None,
    form: str,
    *target: VipsTarget,
) -> Any:  # noqa: ANN401  the bytes, if there is no target
    lossless = options.webp_quality == _LOSSLESS_QUALITY
    settings: dict[ImageFormat, dict[str, Any]] = {
        "jpeg": {"Q": options.jpeg_quality},
        "png": {"compression": options.png_effort, "filter": "sub|up"},
        "webp": {
            "Q": options.webp_quality,
            "alpha_q": 100,
            "lossless": lossless,
            "exact": lossless,  # keeps colours under full transparency
            "effort": 0 if lossless else 2,
        },
    }
    # Measured on Kodak24: sub|up is the smallest PNG and among the fastest, a fifth of the time of
    # Pillow's default and smaller; WebP effort 4 takes twice as long as 2 and saves nothing.
    keep = "none"
    if metadata is not None and _takes(format, metadata):
        vips, keep = attach(vips, metadata), _KEPT
    return getattr(vips, f"{format}save_{form}")(*target, keep=keep, **settings[format])
