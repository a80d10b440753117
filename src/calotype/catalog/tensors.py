"""The names of the tensors in a file of weights, read without the libraries that open it.

Nothing in a file runs: of a pickle only the operations are looked at, and of these only strings.
"""

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".pth", ".pt", ".ckpt")
"""Of checkpoints, the preferred first."""

_LENGTH_BYTES = 8
_MAX_BYTES = 4 * 1024 * 1024
"""Of names, in one file; more are not looked at."""
_PICKLES = 4
"""Before PyTorch had zip archives: three numbers and tables, and then what was saved."""


def tensor_names(path: Path) -> frozenset[str]:
    """Read the names of a file's tensors.

    Args:
        path: a safetensors file, or what ``torch.save`` or ``torch.jit.save`` wrote.

    Returns:
        The names, and what other strings a pickle has; of a program the names of its parts, which
        aren't joined. Empty for a damaged file, of which whoever loads it says more.
    """
    try:
        with path.open("rb") as stream:
            if path.suffix.lower() == SAFETENSORS:
                return frozenset(_header(stream))
            return frozenset(_strings(stream))
    except (OSError, ValueError, LookupError, EOFError, RecursionError, zipfile.BadZipFile):
        return frozenset()


def _header(stream: BinaryIO) -> Iterator[str]:
    """Yield the keys of a safetensors file's header.

    Source: the format's description at https://github.com/huggingface/safetensors.
    """
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > _MAX_BYTES:
        return
    header = json.loads(stream.read(length))
    yield from (key for key in header if key != "__metadata__")


def _strings(stream: BinaryIO) -> Iterator[str]:
    """Yield the strings of a pickle, bare or in a zip archive."""
    content = stream
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            name = next(n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"])
            with archive.open(name) as entry:
                content = io.BytesIO(entry.read(_MAX_BYTES))
    else:
        stream.seek(0)
        content = io.BytesIO(stream.read(_MAX_BYTES))
    for _ in range(_PICKLES):
        try:
            for _, argument, _ in pickletools.genops(content):
                if isinstance(argument, str):
                    yield argument
        except (ValueError, EOFError):  # the tensors' own bytes begin here, or it is cut off
            return
