"""Memory that two processes share, without a name: gone with the last process that holds it."""

import fcntl
import mmap
import os
import tempfile
from typing import Self

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 8 * 1024 * 1024
"""Segments up to this size are used again; copying out of them costs less than making new ones."""

_CAN_SEAL = hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")


class Segment:
    """A piece of shared memory, mapped into this process.

    Args:
        fd: of the memory; closed here.

    Raises:
        OSError: it can't be mapped.
    """

    def __init__(self, fd: int) -> None:
        try:
            if _CAN_SEAL:
                # Nobody can shrink it any more, so that no access can end a process by SIGBUS.
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            self.map = mmap.mmap(fd, 0, flags=flags)
        except BaseException:
            os.close(fd)
            raise
        self.fd: int | None = fd

    @classmethod
    def create(cls, size_bytes: int) -> Self:
        """Make one.

        Raises:
            OSError: there is no memory left; found out here, for later it would end the process.
        """
        if _CAN_SEAL:
            fd = os.memfd_create("calotype", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:  # its name is gone before anybody sees it
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, size_bytes)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size_bytes)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    @property
    def size_bytes(self) -> int:
        """How much memory it is."""
        return len(self.map)

    def array(self, start: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a part of the memory as uint8; the memory lives as long as the array."""
        count = int(np.prod(shape))
        return np.frombuffer(self.map, np.uint8, count, start).reshape(shape)

    def close(self) -> None:
        """Let go of the descriptor; the memory goes when no array looks at it any more."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Shelf:
    """Keeps the last small segment of one direction, on either side, to use it again."""

    def __init__(self) -> None:
        self._kept: Segment | None = None

    def take(self, size_bytes: int) -> tuple[Segment, bool]:
        """Return a segment to fill, and whether the other side shall keep it too.

        Its descriptor is gone if the other side has it already.

        Raises:
            OSError: there is no memory left.
        """
        if size_bytes > SMALL_BYTES:
            return Segment.create(size_bytes), False
        if self._kept is None or self._kept.size_bytes < size_bytes:
            # A power of two, so that pictures that grow slowly don't need a new one each time.
            self._kept = Segment.create(min(SMALL_BYTES, 1 << (size_bytes - 1).bit_length()))
        return self._kept, True

    def open(self, fd: int | None, *, kept: bool) -> Segment:
        """Return the segment that the other side filled.

        Args:
            fd: of a new segment; None: the one that was kept last.
            kept: whether to keep it.

        Raises:
            OSError: it can't be mapped.
            ValueError: none was kept.
        """
        if fd is None:
            if self._kept is None:
                raise ValueError("no segment was kept")
            return self._kept
        segment = Segment(fd)
        segment.close()
        if kept:
            self._kept = segment
        return segment
