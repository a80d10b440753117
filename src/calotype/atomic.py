"""Files that nobody ever sees half written."""

import secrets
from pathlib import Path

NAME_CHARS = 100
"""Of the file's name that its partial file carries: names have a longest length."""


def write_atomically(path: Path, body: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Raises:
        OSError: the folder is missing, full or write-protected.
    """
    partial = path.with_name(f".{path.name[:NAME_CHARS]}.partial-{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as stream:
            stream.write(body)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
