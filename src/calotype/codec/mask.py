"""What a mask means, the same for every model: what is repainted, and what stays as it is.

White is repainted, and where no mask is given, what is transparent. The network sees a cut-out
around the mask; its pixels count inside the mask and fade out over ``mask_blur`` pixels around it.
Every other pixel is the input's own, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calotype.codec.resize import resize
from calotype.domain.image import RGB, Image, Plane, Size
from calotype.domain.model import ModelSpec
from calotype.domain.request import ParamValue
from calotype.errors import InvalidParameterError

PARAM = "mask_image"
THRESHOLD = 127
"""A mask's pixel above this is repainted."""
CONTEXT_PX = 128
"""What the network sees around the mask on each side, at least."""
CONTEXT_SHARE = 1.0
"""And at least this share of the mask's longer side."""
WHOLE_SHARE = 0.7
"""A cut-out with more of the picture's pixels than this is the whole picture."""

_OPAQUE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What of a picture is repainted."""

    rows: slice
    columns: slice
    """Where the cut-out lies."""
    mask: Plane
    """(h, w) of the cut-out: 255 is repainted, 0 is not."""
    weight: Plane
    """(h, w) of the cut-out: how much of the network's pixels counts, 255 inside the mask."""
    opens: bool
    """Whether what is repainted becomes opaque: it was chosen by being transparent."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to repaint."""
        return not self.mask.any()


def find_region(
    model: ModelSpec, original: Image, images: Mapping[str, Image], values: Mapping[str, ParamValue]
) -> Region | None:
    """Tell what of a picture a model shall repaint; None for models that take no mask.

    Args:
        model: one that declares ``mask_image`` takes one.
        original: the decoded picture.
        images: the decoded image parameters.
        values: ``mask_blur`` is read.

    Raises:
        InvalidParameterError: there is neither a mask nor transparency, or the mask is of another
            size than the picture.
    """
    if model.param(PARAM) is None:
        return None
    given = images.get(PARAM)
    if given is not None and given.size != original.size:
        raise InvalidParameterError(
            f"{PARAM} must be of the picture's size {original.size}, got {given.size}"
        )
    if given is not None:
        chosen = _brightness(given) > THRESHOLD
    elif original.alpha is not None:
        chosen = original.alpha < _OPAQUE - THRESHOLD
    else:
        raise InvalidParameterError(
            f"{PARAM} is required by {model.name}: white is repainted; a picture with transparency "
            "needs none"
        )
    blur = values.get("mask_blur")
    return _region(chosen, int(blur) if isinstance(blur, int) else 0, opens=given is None)


def whiten_holes(holes: Image, name: str) -> Image:
    """Return the mask that a picture with holes stands for: what is transparent is repainted.

    Args:
        holes: a decoded picture; of its pixels only the alpha channel counts.
        name: of the field it was sent in, for the message.

    Returns:
        (h, w, 3): white where alpha is below 128, black elsewhere.

    Raises:
        InvalidParameterError: it has no alpha channel.
    """
    if holes.alpha is None:
        raise InvalidParameterError(
            f"{name} must have an alpha channel, as what is transparent in it is repainted; "
            f"a mask of black and white is sent as {PARAM}"
        )
    plane = np.where(holes.alpha < _OPAQUE - THRESHOLD, np.uint8(_OPAQUE), np.uint8(0))
    return Image(np.repeat(plane[:, :, None], RGB, axis=2))


def cut_out(image: Image, region: Region) -> tuple[Image, Image]:
    """Return the part of the picture that the network sees, and its mask as a picture."""
    pixels = np.ascontiguousarray(image.pixels[region.rows, region.columns])
    return Image(pixels), Image(np.repeat(region.mask[:, :, None], RGB, axis=2))


def put_back(original: Image, made: Image, region: Region) -> Image:
    """Lay what the network made over the picture.

    Args:
        original: the whole picture.
        made: the cut-out as the network made it, of any size.
        region: where it belongs.
    """
    h, w = region.mask.shape
    pixels = original.pixels.copy()
    if not region.is_empty:
        place = pixels[region.rows, region.columns]
        place[:] = _mixed(place, resize(made, Size(height_px=h, width_px=w)).pixels, region.weight)
    return Image(pixels, _alpha(original, region))


def unchanged_share(original: Image, result: Image) -> float | None:
    """Return which share of the pixels is the input's own; None for a result of another size."""
    if original.size != result.size:
        return None
    same = (original.pixels == result.pixels).all(2)
    return float(same.mean())


def _brightness(mask: Image) -> Plane:
    """Return how white a mask is; what is transparent in it is not white."""
    plane = mask.pixels.max(axis=2)
    return plane if mask.alpha is None else np.where(mask.alpha > THRESHOLD, plane, 0)


def _alpha(original: Image, region: Region) -> Plane | None:
    """Return the result's alpha channel."""
    if original.alpha is None or not region.opens:
        return original.alpha
    alpha = original.alpha.copy()
    place = alpha[region.rows, region.columns]
    np.maximum(place, region.mask, out=place)
    return alpha


def _mixed(kept: NDArray[np.uint8], made: NDArray[np.uint8], weight: Plane) -> NDArray[np.uint8]:
    """Fade from one into the other; a weight of 0 or 255 takes one of them as it is."""
    part = weight[:, :, None].astype(np.uint16)
    sum_ = kept * (_OPAQUE - part) + made * part + _OPAQUE // 2  # at most 65152: no overflow
    return (sum_ // _OPAQUE).astype(np.uint8)


def _region(chosen: NDArray[np.bool_], blur_px: int, *, opens: bool) -> Region:
    """Cut out what is chosen, with what surrounds it."""
    h, w = chosen.shape
    if not chosen.any():
        nothing = np.zeros((0, 0), np.uint8)
        none = slice(0, 0)
        return Region(rows=none, columns=none, mask=nothing, weight=nothing, opens=opens)
    (top, bottom), (left, right) = (
        _extent(np.flatnonzero(chosen.any(axis=axis))) for axis in (1, 0)
    )
    margin = blur_px + max(CONTEXT_PX, int(CONTEXT_SHARE * max(bottom - top, right - left)))
    rows = slice(max(0, top - margin), min(h, bottom + margin))
    columns = slice(max(0, left - margin), min(w, right + margin))
    if (rows.stop - rows.start) * (columns.stop - columns.start) > WHOLE_SHARE * h * w:
        rows, columns = slice(0, h), slice(0, w)
    part = chosen[rows, columns]
    mask = np.where(part, np.uint8(_OPAQUE), np.uint8(0))
    return Region(
        rows=rows, columns=columns, mask=mask, weight=_feathered(mask, blur_px), opens=opens
    )


def _extent(found: NDArray[np.intp]) -> tuple[int, int]:
    """Return the first of ascending numbers, and one past the last."""
    return int(found[0]), int(found[-1]) + 1


def _feathered(mask: Plane, blur_px: int) -> Plane:
    """Let a mask fade out over some pixels around it; inside it stays 255.

    It is grown by half of them, and blurred by the other half: what a blur takes from the inside
    of the grown mask is then outside of the mask itself.
    """
    if not blur_px:
        return mask
    grown = (blur_px + 1) // 2
    wide = np.where(_box_sum(mask > 0, grown) > 0, np.int64(_OPAQUE), np.int64(0))
    reach = blur_px - grown
    soft = _box_sum(wide, reach) // (2 * reach + 1) ** 2
    return np.maximum(soft, mask).astype(np.uint8)


def _box_sum(values: NDArray[np.generic], reach: int) -> NDArray[np.int64]:
    """Return at each pixel the sum over the square that reaches that far, edges repeated."""
    sums = np.pad(cast("NDArray[np.int64]", values.astype(np.int64)), reach, mode="edge")
    for axis in (0, 1):
        run = np.cumsum(sums, axis=axis)
        run = np.insert(run, 0, 0, axis=axis)
        side = 2 * reach + 1
        count = run.shape[axis]
        upper = np.take(run, np.arange(side, count), axis=axis)
        lower = np.take(run, np.arange(0, count - side), axis=axis)
        sums = upper - lower
    return sums
