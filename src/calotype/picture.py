"""Finished pictures, as the library hands them out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotype.atomic import write_atomically
from calotype.codec.decode import decode, probe
from calotype.domain.image import Size
from calotype.domain.request import FORMATS, ImageFormat, ParamValue
from calotype.errors import InvalidParameterError

_ANY_SIZE = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """How a picture was made."""

    format: ImageFormat
    applied: Mapping[str, ParamValue | Mapping[str, ParamValue]]
    """Every parameter that was really used, defaults filled in; of a chain, by its stages."""
    warnings: tuple[str, ...]
    """What was ignored or changed, one sentence each."""
    seed: int | None
    """What random draws started from; None where nothing is drawn."""
    model_id: str
    inference_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(_Made):
    """A finished picture, and how it was made."""

    body: bytes
    """The encoded file."""

    @property
    def size(self) -> Size:
        """Rows and columns, read from the file's header."""
        return probe(self.body, _ANY_SIZE).size

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture decoded anew: (h, w, 3) RGB or, with transparency, (h, w, 4) RGBA uint8."""
        image = decode(self.body, _ANY_SIZE).image
        return image.pixels if image.alpha is None else np.dstack((image.pixels, image.alpha))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Args:
            path: its suffix is not looked at: name the format when you call ``run``.

        Raises:
            OSError: the folder is missing, full or write-protected.
        """
        write_atomically(Path(path), self.body)

    def saved(self, path: Path) -> "SavedPicture":
        """Write the file as ``save`` does, folders that are missing too, and say what was written.

        Raises:
            OSError: the file can't be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save(path)
        made = {field.name: getattr(self, field.name) for field in fields(_Made)}
        return SavedPicture(path=path, size=self.size, **made)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPicture(_Made):
    """A picture that was written to a file, and how it was made."""

    path: Path
    size: Size


def parse_format(text: str) -> ImageFormat:
    """Read the name of a format; ``jpg`` is one of JPEG's.

    Raises:
        InvalidParameterError: not one that is written.
    """
    name = text.strip().lower().removeprefix(".").replace("jpg", "jpeg")
    if name not in FORMATS:
        raise InvalidParameterError(f"format must be one of {', '.join(FORMATS)}, got {text!r}")
    return name
