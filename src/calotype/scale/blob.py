"""Files by their content, one copy on a node, however many of its processes want it."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from calotype.atomic import replacing, sweep
from calotype.domain.model import WeightFile
from calotype.errors import MissingWeightsError

Fetch = Callable[[], Iterator[bytes]]
"""Yields a file's content in pieces, from its beginning."""


class Blobs:
    """A folder of files that are called by their digests.

    Args:
        folder: on this node, for its processes only; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def obtain(self, file: WeightFile, fetch: Fetch) -> Path:
        """Return a file, fetching it if this node doesn't have it.

        Who comes while another process fetches it waits for that; if that one dies, the next in
        the line begins anew.

        Args:
            file: with its digest.
            fetch: called at most once.

        Raises:
            MissingWeightsError: another content arrived, or there is no room for it.
        """
        target = self._folder / file.sha256
        if not target.is_file():
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with _alone(target.with_suffix(".lock")):
                    if not target.is_file():
                        sweep(target)
                        _receive(file, target, fetch)
            except OSError as error:
                raise _no_room(file, error) from error
        return target


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process, or thread, is in here; the system ends it with its holder."""
    with lock.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _receive(file: WeightFile, target: Path, fetch: Fetch) -> None:
    """Write a file that is in its place only once it is whole and right."""
    digest = hashlib.sha256()
    with replacing(target) as stream:
        for piece in fetch():
            digest.update(piece)
            stream.write(piece)
        if digest.hexdigest() != file.sha256:
            raise MissingWeightsError(
                f"the weights {Path(file.path).name} did not arrive as their digest says: they were"
                " changed on the node that has them, or are not the ones the catalog names there"
            )
        stream.flush()
        os.fsync(stream.fileno())  # its name is all that anybody looks at later


def _no_room(file: WeightFile, error: OSError) -> MissingWeightsError:
    reason = error.strerror or type(error).__name__
    size = f", which takes {file.size_bytes} bytes" if file.size_bytes else ""
    return MissingWeightsError(
        f"the weights {Path(file.path).name} can't be kept on this node: {reason}; make room in its"
        f" cache_dir{size}, or set another"
    )
