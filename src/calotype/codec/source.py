"""Pictures as a Python program has them."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calotype.codec.encode import EncodeOptions, encode
from calotype.domain.image import RGB, Image
from calotype.errors import InvalidParameterError

Source = bytes | str | os.PathLike[str] | NDArray[np.uint8]
"""A picture: an encoded file's bytes, a path, or (h, w, 3|4) uint8 RGB or RGBA."""


def encoded(image: Source, name: str) -> bytes:
    """Return a picture as the bytes of a file.

    Args:
        image: a file's bytes, a path, or (h, w, 3) RGB or (h, w, 4) RGBA uint8.
        name: of the parameter, for the message.

    Raises:
        InvalidParameterError: none of these.
        OSError: the file can't be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    array = np.asarray(image)
    h_w_c = array.ndim == RGB and array.shape[2] in (RGB, RGB + 1)
    if array.dtype != np.uint8 or not h_w_c or not array.size:
        raise InvalidParameterError(
            f"{name} must be bytes, a path, or an array (h, w, 3 or 4) uint8, "
            f"got {array.dtype} {array.shape}"
        )
    alpha = np.ascontiguousarray(array[..., RGB]) if array.shape[2] > RGB else None
    picture = Image(np.ascontiguousarray(array[..., :RGB]), alpha)
    return encode(picture, "png", EncodeOptions(png_effort=0))  # nobody keeps it: not compressed


def with_files(parameters: Mapping[str, object], images: Collection[str]) -> dict[str, object]:
    """Return what is given of parameters, those that are pictures as the bytes of files.

    Raises:
        InvalidParameterError: one of them is no picture.
        OSError: a file can't be read.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    return given | {n: encoded(cast(Source, v), n) for n, v in given.items() if n in images}
