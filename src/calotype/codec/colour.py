"""From whatever a file's samples mean to 8-bit sRGB."""

import contextlib
import functools

import numpy as np
import pyvips

from calotype.codec.vips import FAILURES, VipsImage, to_array, to_vips
from calotype.domain.image import RGB

_PROFILE = "icc-profile-data"
_GRAY = ("b-w", "grey16")
_ABSOLUTE = ("lab", "labs", "xyz", "cmyk")
"""Spaces whose samples have a scale of their own."""
_PROFILED_FORMATS = ("uchar", "ushort")
_SPACE = slice(16, 20)
"""The colour space field of a profile's header: ICC.1, 7.2."""
_MAX_SRGB_PROFILE_BYTES = 32 * 1024
"""What says sRGB is a few kilobytes; larger ones hold tables."""
# Levels of the test cube: 18 a side, 0 and 255 among them.
_CUBE_LEVELS = np.arange(0, 256, 15, dtype=np.uint8)


def has_alpha(image: VipsImage) -> bool:
    """Return whether a loaded image has a band after its colours."""
    return bool(image.bands > _colour_bands(image))


def to_srgb(image: VipsImage) -> VipsImage:
    """Convert a loaded image to 8-bit sRGB, applying its ICC profile.

    A profile that cannot be used is ignored: the samples are then read as sRGB (or, in a CMYK
    file, as the common press profile libvips brings). Samples in floating point are linear light
    in 0..1, as TIFF writers use them.

    Args:
        image: gray, RGB, CMYK or Lab, 8 or 16 bit or floating point, with or without alpha.

    Returns:
        3 bands of RGB, or 4 with alpha, not premultiplied; 8 bit. Still lazy: no pixel is computed.
    """
    count = _colour_bands(image)
    colour = image if image.bands == count else image.extract_band(0, n=count)
    rgb = _as_rgb(_apply_profile(colour.copy(interpretation=image.interpretation)))
    if image.bands == count:
        return rgb
    return rgb.bandjoin(_alpha_to_8_bit(image.extract_band(count)))


def _colour_bands(image: VipsImage) -> int:
    if image.interpretation == "cmyk":
        return 4
    return 1 if image.interpretation in _GRAY or image.bands < RGB else RGB


def _apply_profile(colour: VipsImage) -> VipsImage:
    """Return 8-bit sRGB, or the image as it came when its samples are to be read as sRGB."""
    with contextlib.suppress(*FAILURES):  # raised by bad profiles, before any pixel is read
        if _has_own_profile(colour) and not _is_srgb(colour):
            return _transform(colour, embedded=True)
    return _transform(colour, input_profile="cmyk") if _space(colour) == b"CMYK" else colour


def _has_own_profile(colour: VipsImage) -> bool:
    """Return whether a profile is embedded that is about samples of this kind."""
    if not colour.get_typeof(_PROFILE) or colour.format not in _PROFILED_FORMATS:
        return False
    profile: bytes = colour.get(_PROFILE)
    return profile[_SPACE] == _space(colour)


def _space(colour: VipsImage) -> bytes:
    if colour.interpretation == "cmyk":
        return b"CMYK"
    return b"GRAY" if colour.bands == 1 else b"RGB "


def _transform(colour: VipsImage, **source: object) -> VipsImage:
    # Relative colorimetric with black point compensation is what photo editors default to.
    return colour.icc_transform(
        "srgb", intent="relative", black_point_compensation=True, depth=8, **source
    )


def moves_nothing(profile: bytes) -> bool:
    """Tell whether a profile moves no 8-bit RGB colour by more than one level: most don't.

    Raises:
        pyvips.Error: the profile can't be used.
    """
    is_small = len(profile) <= _MAX_SRGB_PROFILE_BYTES
    return is_small and profile[_SPACE] == b"RGB " and _moves_nothing(profile)


def _is_srgb(colour: VipsImage) -> bool:
    """Return whether the profile of an image changes nothing."""
    if _space(colour) != b"RGB " or colour.format != "uchar":
        return False
    return moves_nothing(colour.get(_PROFILE))


@functools.lru_cache(maxsize=64)
def _moves_nothing(profile: bytes) -> bool:
    # Asking takes about 4 ms, the conversion it saves 70 ms on 12 megapixels; the few profiles
    # that most files carry are asked once.
    levels = np.stack(np.meshgrid(_CUBE_LEVELS, _CUBE_LEVELS, _CUBE_LEVELS), axis=-1)
    cube = levels.reshape(len(_CUBE_LEVELS), -1, 3)  # (18, 18, 18, 3) -> (18, 324, 3)
    probe = to_vips(cube)
    probe.set_type(pyvips.GValue.blob_type, _PROFILE, profile)
    moved = to_array(_transform(probe, embedded=True)).astype(np.int16)
    return bool(np.abs(moved - cube).max() <= 1)


def _as_rgb(colour: VipsImage) -> VipsImage:
    """Return 8-bit RGB from samples that carry no profile any more."""
    if colour.format == "ushort" and colour.interpretation not in _ABSOLUTE:
        colour = _halve_depth(colour).copy(interpretation="srgb")
    if colour.format in ("float", "double"):
        if colour.bands == 1:
            colour = colour.bandjoin([colour, colour])
        if colour.interpretation not in _ABSOLUTE:
            colour = colour.copy(interpretation="scrgb")
    if colour.bands == 1:
        return colour.cast("uchar").bandjoin([colour, colour]).copy(interpretation="srgb")
    return colour if colour.interpretation == "srgb" else colour.colourspace("srgb")


def _halve_depth(samples: VipsImage) -> VipsImage:
    # 65535 = 255 * 257. Dropping the low byte, the usual way, darkens half of all values by one.
    return samples.linear(1 / 257, 0.5, uchar=True)


def _alpha_to_8_bit(alpha: VipsImage) -> VipsImage:
    if alpha.format == "ushort":
        return _halve_depth(alpha)
    if alpha.format in ("float", "double"):
        return alpha.linear(255, 0.5, uchar=True)
    return alpha.cast("uchar")
