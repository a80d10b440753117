"""Small messages between the server and a worker process, each with at most one segment."""

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

Message = Mapping[str, Any]

_LENGTH = struct.Struct("!I")
_CHUNK_BYTES = 1 << 16
_MAX_FDS = 16


class Channel:
    """One end of a pair of sockets; any thread may send, one receives.

    Args:
        end: a Unix stream socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._data = bytearray()
        self._fds = deque[int]()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send a message; small ones never wait for the other side.

        Args:
            message: what JSON can say.
            fd: a descriptor that the other side gets a copy of.

        Raises:
            OSError: the other side is gone.
        """
        text = json.dumps({**message, "fd": fd is not None}).encode()
        data = _LENGTH.pack(len(text)) + text
        with self._sending:
            sent = 0 if fd is None else socket.send_fds(self._end, [data], [fd])
            self._end.sendall(data[sent:])

    def receive(self) -> list[tuple[Message, int | None]]:
        """Wait for something, and return the messages that are complete.

        Raises:
            EOFError: the other side is gone.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self._end, _CHUNK_BYTES, _MAX_FDS)
        except ConnectionError:
            data, fds = b"", []
        for received in fds:
            os.set_inheritable(received, False)
        self._fds.extend(fds)
        if not data:
            raise EOFError
        self._data += data
        found = []
        while (message := self._next()) is not None:
            fd = self._fds.popleft() if message["fd"] else None
            found.append((message, fd))
        return found

    def hang_up(self) -> None:
        """Let the other side know that nothing will follow; what it still says can be read.

        Raises:
            OSError: it is gone.
        """
        self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection, and descriptors that nobody took."""
        self._end.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _next(self) -> Message | None:
        """Take one complete message from what has arrived."""
        start = _LENGTH.size
        if len(self._data) < start:
            return None
        stop = start + _LENGTH.unpack_from(self._data)[0]
        if len(self._data) < stop:
            return None
        message: Message = json.loads(self._data[start:stop])
        del self._data[:stop]
        return message
