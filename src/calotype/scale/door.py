"""In front of the servers: a request whose server is lost before it answered is sent again.

Ray Serve's proxy, which holds the connection, gives up then. What is to stand around it, it finds
by a variable of its environment: ``scale.node`` has it.
"""

import asyncio
import logging
from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calotype.api.exchange import Exchange
from calotype.api.header import UNCHOSEN
from calotype.api.problems import problem
from calotype.errors import RequestLostError

logger = logging.getLogger("ray.serve")  # the proxy's own: ours is set up in our processes only

LOST = "the server that had the request is gone; send it again"
Headers = Sequence[tuple[bytes, bytes]]

ATTEMPTS = 4
PAUSE_S = 0.05
"""After the first attempt; so much more after each further one."""
ORDERS = (
    b"x_request_disconnect_disabled",
    b"x_request_timeout_seconds",
    b"x_session_id",
    b"x_serve_router_",
    b"serve_multiplexed_model_id",
)
"""How headers begin that Ray Serve heeds, whoever sends them, with _ or - between their words: to
go on for a client that has left, to go to one server, to remember each value for ever."""
KEPT_BYTES = 64 * 1024 * 1024
"""Of a body that is kept until its answer begins; a longer one is sent once."""


class Door:
    """Sends a request again, as long as nothing of an answer has been sent.

    The same request gives the same answer, and one that was half done has changed nothing.

    Args:
        app: Ray Serve's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(receive, send)
        headers = _heard(scope["headers"])
        for attempt in range(1, ATTEMPTS + 1):
            await self._app({**scope, "headers": headers[:]}, visit.receiver(), visit.send)
            if visit.is_over:
                return
            logger.warning("%s was lost with its server, try %d", scope["path"], attempt)
            if not visit.is_kept:
                break
            if attempt < ATTEMPTS:
                await asyncio.sleep(PAUSE_S * attempt)
        exchange = Exchange(scope)
        lost = problem(RequestLostError(LOST, retry_after_s=1.0), exchange.dialect)
        lost.raw_headers += exchange.extra
        await lost(scope, visit.receiver(), visit.send)


class _Visit:
    """One request, as far as it has come in, and whether its answer has begun."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._kept: list[Message] = []
        self._bytes = 0
        self.is_kept = True
        """Whether all that came is still there."""
        self.is_over = False
        """Whether an answer has begun, or nobody waits for one."""

    async def send(self, message: Message) -> None:
        """Send some of the answer."""
        self.is_over = True
        if message["type"] == "http.response.start":
            message = {**message, "headers": _without_second_id(message["headers"])}
        await self._send(message)

    def receiver(self) -> Receive:
        """Return what yields the request from its beginning."""
        read = 0

        async def receive() -> Message:
            nonlocal read
            if read < len(self._kept):
                read += 1
                return self._kept[read - 1]
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_over = True
            elif not self.is_over:
                self._keep(message)
                read += 1
            return message

        return receive

    def _keep(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        if self.is_kept and self._bytes <= KEPT_BYTES:
            self._kept.append(message)
        else:
            self.is_kept = False
            self._kept.clear()


def _heard(sent: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers without what is Ray Serve's or our own to say."""
    heard = []
    for name, value in sent:
        plain = name.lower()
        if plain != UNCHOSEN and not plain.replace(b"-", b"_").startswith(ORDERS):
            heard.append((name, value))
    if not any(name.lower() == b"x-request-id" for name, _ in heard):
        heard.append((UNCHOSEN, b"1"))  # Ray Serve adds an id, which nobody can ask for
    return heard


def _without_second_id(headers: Headers) -> Headers:
    """Leave out the request id that Ray Serve adds to one that is there: ours was checked."""
    found = [index for index, (name, _) in enumerate(headers) if name.lower() == b"x-request-id"]
    return [header for index, header in enumerate(headers) if index not in found[1:]]


def middlewares() -> list[Middleware]:
    """Return what stands around Ray Serve's proxy."""
    return [Middleware(Door)]
