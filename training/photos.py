"""The photos to learn from, out of their archives, and those that are kept for measuring."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBS, LARGE = "thumbs64.tar", "photos256.tar"
HELD_OUT = 10
"""One large photo in this many, by name, is held out: it is for measuring only."""


def pictures(archive: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield name and (h, w, 3) sRGB pixels of every picture in a .tar file, by name."""
    with tarfile.open(archive) as tar:
        members = sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name)
        for member in members:
            stream = tar.extractfile(member)
            assert stream is not None
            with Image.open(io.BytesIO(stream.read())) as picture:
                yield member.name, np.asarray(picture.convert("RGB"))


def large(folder: Path, *, held_out: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield the large photos that are held out, or all others."""
    for number, (_, pixels) in enumerate(pictures(folder / LARGE)):
        if (number % HELD_OUT == 0) == held_out:
            yield pixels
