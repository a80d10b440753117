"""Digests of weight files, each worked out once on a node."""

import contextlib
import hashlib
from pathlib import Path

from calotype.atomic import write_atomically
from calotype.catalog import weights
from calotype.domain.model import ModelSpec, WeightFile


class Digests:
    """Remembers digests between processes and starts.

    Args:
        folder: where they are kept; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, file: WeightFile) -> str:
        """Digest what is there, unless it was read before and has not been touched since.

        Raises:
            MissingWeightsError: the file is missing or unreadable.
        """
        path = weights.locate(file)
        stat = path.stat()
        note = self._note(str(path), str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ino))
        if (known := _read(note)) is None:
            known = weights.digest(file)
            _write(note, known)
        return known

    def recall(self, spec: ModelSpec, role: str) -> str | None:
        """Return what ``remember`` was told of a model's file, or None."""
        return _read(self._note(spec.id, spec.revision, role))

    def remember(self, spec: ModelSpec, role: str, sha256: str) -> None:
        """Keep the digest of a file for which the catalog has none."""
        _write(self._note(spec.id, spec.revision, role), sha256)

    def _note(self, *key: str) -> Path:
        """Return where something is written down."""
        return self._folder / hashlib.sha256("\0".join(key).encode()).hexdigest()


def _read(note: Path) -> str | None:
    try:
        return note.read_text(encoding="ascii")
    except OSError:
        return None


def _write(note: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # then it is worked out again
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, text.encode())
