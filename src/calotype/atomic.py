"""Files that nobody ever sees half written."""

import contextlib
import glob
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NAME_CHARS = 100
"""Of the file's name that its partial file carries: names have a longest length."""


def write_atomically(path: Path, body: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Raises:
        OSError: the folder is missing, full or write-protected.
    """
    with replacing(path) as stream:
        stream.write(body)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of another once the ``with`` block is through.

    Leaving it by an error leaves everything as it was.

    Raises:
        OSError: the folder is missing, full or write-protected.
    """
    partial = path.with_name(f"{_partial(path)}{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as stream:
            yield stream
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove what a writer that was killed left of a file; nobody may be writing it now.

    Raises:
        OSError: the folder is write-protected.
    """
    for partial in path.parent.glob(f"{glob.escape(_partial(path))}*"):
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> str:
    """Return how the names of a file's partial files begin."""
    return f".{path.name[:NAME_CHARS]}.partial-"
