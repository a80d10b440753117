"""An HTTP server elsewhere as an ASGI application here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
from starlette.types import Message, Receive, Scope, Send

from live import skip_inside


class Bridge:
    """What answers at a URL, as an ASGI application: a client that leaves closes its connection."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back."""
        if self._client.is_closed:
            skip_inside()  # an application that was shut down still answers, and a process doesn't
        first = await receive()
        body = _body(first, receive) if first.get("more_body") else first["body"]
        sending = asyncio.ensure_future(
            self._client.request(
                scope["method"], scope["path"], content=body, headers=scope["headers"]
            )
        )
        leaving = asyncio.ensure_future(_until_gone(receive) if body is first["body"] else never())
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return
            with contextlib.suppress(_GoneError):
                await _answer(sending.result(), send)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait((sending, leaving))


class _GoneError(Exception):
    """The client left amid its upload."""


async def _body(first: Message, receive: Receive) -> AsyncIterator[bytes]:
    """Read on; a client that leaves breaks the connection."""
    message = first
    while message["type"] == "http.request":
        yield message["body"]
        if not message.get("more_body"):
            return
        message = await receive()
    raise _GoneError


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def never() -> None:
    await asyncio.Event().wait()


async def _answer(response: httpx.Response, send: Send) -> None:
    """Send what came."""
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.headers.raw})
    await send({"type": "http.response.body", "body": response.content})
