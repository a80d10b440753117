"""Bytes on their way between a thread of libvips and one of ours."""

import threading
from collections import deque

ROOM_BYTES = 8 * 1024 * 1024
"""What may be under way; enough that neither side waits for single rows."""


class Pipe:
    """A bounded queue of bytes, with an end that either side can cause; thread-safe.

    Args:
        room_bytes: under way at most; one block always may be.
    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room_bytes = room_bytes
        self._blocks: deque[memoryview] = deque()
        self._bytes = 0
        self._ended = self._broken = False
        self._changed = threading.Condition()

    def put(self, block: bytes) -> bool:
        """Add a block, waiting until there is room for it; False once nobody takes any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._broken or not self._bytes or self._bytes < self._room_bytes
            )
            if self._broken:
                return False
            if block:
                self._blocks.append(memoryview(block))
                self._bytes += len(block)
                self._changed.notify_all()
            return True

    def take(self, most: int) -> memoryview:
        """Return some bytes, at least one and at most so many; none after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or self._ended or self._bytes)
            if not self._bytes:
                return memoryview(b"")
            block = self._blocks[0]
            if len(block) <= most:
                self._blocks.popleft()
            else:
                self._blocks[0], block = block[most:], block[:most]
            self._bytes -= len(block)
            self._changed.notify_all()
            return block

    def end(self) -> None:
        """Say that no more is added; what is under way can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop what is under way, and let nobody wait any more."""
        with self._changed:
            self._broken = True
            self._blocks.clear()
            self._bytes = 0
            self._changed.notify_all()
