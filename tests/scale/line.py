"""A connection to a server, on which nothing that comes is overlooked."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

CHUNK_BYTES = 65_536
QUIET_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes
    """What came after the end of it, where nothing was to come."""


class BrokenError(Exception):
    """The connection ended without an answer; ``amid``: within one."""

    def __init__(self, *, amid: bool) -> None:
        super().__init__("amid the answer" if amid else "before the answer")
        self.amid = amid


class Line:
    """A connection that is kept.

    Not one of the usual clients: they throw bytes away that come where none should.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def to(cls, url: str) -> "Line":
        """Connect."""
        parts = urlsplit(url)
        try:
            return cls(*await asyncio.open_connection(parts.hostname, parts.port))
        except OSError:
            raise BrokenError(amid=False) from None

    def close(self) -> None:
        self._writer.close()

    async def stray(self) -> bytes:
        """Return what comes though nothing was asked for."""
        try:
            return await asyncio.wait_for(self._reader.read(CHUNK_BYTES), QUIET_S)
        except (TimeoutError, OSError):
            return b""

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent on it."""
        return self._http.our_state is h11.IDLE and not self._reader.at_eof()

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a request and read its answer.

        Raises:
            BrokenError: the connection broke.
        """
        told = {"host": "load", "content-length": str(len(body)), **headers}
        head = h11.Request(method="POST", target=path, headers=list(told.items()))
        start: h11.Response | None = None
        try:
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self._writer.write(self._http.send(event) or b"")
            await self._writer.drain()
            parts: list[bytes] = []
            async for came in self._events():
                if isinstance(came, h11.Response):
                    start = came
                elif isinstance(came, h11.Data):
                    parts.append(bytes(came.data))
        except (OSError, h11.RemoteProtocolError):
            raise BrokenError(amid=start is not None) from None
        assert start is not None
        return Answer(
            status=start.status_code,
            headers={key.decode(): value.decode() for key, value in start.headers},
            body=b"".join(parts),
            rest=self._end(),
        )

    async def _events(self) -> AsyncIterator[h11.Event]:
        """Yield what comes up to the end of the answer."""
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(CHUNK_BYTES))
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("closed")
            else:
                assert not isinstance(event, type)
                yield event

    def _end(self) -> bytes:
        """Make ready for the next request; return what should not be there."""
        rest: bytes = self._http.trailing_data[0]
        if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} and not rest:
            self._http.start_next_cycle()
        else:
            self.close()
        return rest
