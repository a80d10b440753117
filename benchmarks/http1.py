"""A small HTTP/1.1 client, so that little of what is measured is the client's own work."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

IDLE_S = 2.0
"""Servers close idle connections after some seconds, perhaps just while the next request leaves."""

BOUNDARY = "calotype-benchmark-f0a1c5"
"""Between the parts of a form; in none of the files."""


class LostError(Exception):
    """The connection ended, or talked nonsense, before the answer was complete."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    head: str
    """Status line and headers as they came."""
    body: bytes

    @cached_property
    def headers(self) -> dict[str, str]:
        """By name in lower case."""
        lines = (line.partition(":") for line in self.head.split("\r\n")[1:])
        return {name.strip().lower(): value.strip() for name, _, value in lines}


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Write a POST request."""
    return _request("POST", path, {**headers, "content-length": str(len(body))}) + body


def post_form(path: str, field: str, body: bytes, content_type: str) -> bytes:
    """Write a POST request with a file in a form."""
    line = f'content-disposition: form-data; name="{field}"; filename="{field}"'
    head = f"--{BOUNDARY}\r\n{line}\r\ncontent-type: {content_type}\r\n\r\n"
    form = head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()
    return post(path, form, {"content-type": f"multipart/form-data; boundary={BOUNDARY}"})


def get(path: str) -> bytes:
    """Write a GET request."""
    return _request("GET", path, {})


def _request(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}\r\n".encode()


class Connection(asyncio.Protocol):
    """A keep-alive connection for one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head = ""
        self._needed = 0
        """Bytes of the answer with its head; 0 before the head is complete."""
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self.surplus_bytes = 0
        """What came that nobody had asked for: a second answer."""

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", port))[1]

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the result is its answer.

        Raises:
            LostError: in the result: there is none.
        """
        if self._answer is not None and not self._answer.done():
            raise RuntimeError("the last request has no answer yet")
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.is_open:
            self._answer.set_exception(LostError("the connection is closed"))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """End the connection at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note what to write to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._transport = None
        self._fail(f"the connection ended: {exc or 'closed by the server'}")

    def data_received(self, data: bytes) -> None:
        """Take the next piece of the answer."""
        answer = self._answer
        if answer is None or answer.done():
            self.surplus_bytes += len(data)
            return
        self._buffer += data
        if not self._needed and not self._read_head():
            return
        if (missing := self._needed - len(self._buffer)) > 0:
            return
        self.surplus_bytes -= missing
        start = len(self._head) + 4
        body = bytes(memoryview(self._buffer)[start : self._needed])
        head, self._head, self._needed = self._head, "", 0
        self._buffer = bytearray()
        answer.set_result(Answer(int(head[9:12]), head, body))

    def _read_head(self) -> bool:
        """Read the head; tell whether it is complete and says how long the answer is."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._head = self._buffer[:end].decode("latin-1")
        _, found, rest = self._head.lower().partition("\r\ncontent-length:")
        if not found:
            self._fail(f"an answer without a length: {self._head}")
            self.close()
            return False
        self._needed = end + 4 + int(rest.split("\r\n", 1)[0])
        return True

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LostError(why))


class Pool:
    """As many keep-alive connections as there are requests under way.

    Args:
        port: of a server on this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, Connection]] = []
        self._all: list[Connection] = []
        self._past_surplus_bytes = 0

    async def ask(self, request: bytes, timeout_s: float) -> Answer:
        """Send a request on a connection that nobody else uses; return its answer.

        Raises:
            LostError: there is none.
            TimeoutError: there is none so far; the connection is closed.
        """
        connection = await self.take()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        self._idle.append((asyncio.get_running_loop().time(), connection))
        return answer

    async def take(self) -> Connection:
        """Return a connection that is the caller's from now on."""
        fresh_s = asyncio.get_running_loop().time() - IDLE_S
        while self._idle:
            since_s, connection = self._idle.pop()
            if connection.is_open and since_s > fresh_s:
                return connection
            connection.close()
        self._forget_closed()
        connection = await Connection.open(self._port)
        self._all.append(connection)
        return connection

    @property
    def surplus_bytes(self) -> int:
        """What came on all connections that nobody had asked for."""
        return self._past_surplus_bytes + sum(one.surplus_bytes for one in self._all)

    def close(self) -> None:
        """End all connections."""
        for connection in self._all:
            connection.close()

    def _forget_closed(self) -> None:
        """Drop ended connections, but not what they received."""
        ended = [one for one in self._all if not one.is_open]
        self._past_surplus_bytes += sum(one.surplus_bytes for one in ended)
        self._all = [one for one in self._all if one.is_open]
