"""Clients that leave: Ray Serve cancels what serves them, and the application expects word."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Leaving:
    """Turns a cancelled request into one whose client has left, which the application ends itself.

    Args:
        app: watches for ``http.disconnect``, as of any server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = asyncio.Event()
        serving = asyncio.ensure_future(self._app(scope, _until(receive, left), send))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            left.set()
            await asyncio.wait((serving,))
            if not serving.cancelled():
                serving.exception()  # nobody is left to be told
            raise


def _until(receive: Receive, left: asyncio.Event) -> Receive:
    """Return what receives until somebody has left, and that from then on."""

    async def receive_or_leave() -> Message:
        coming, leaving = asyncio.ensure_future(receive()), asyncio.ensure_future(left.wait())
        try:
            await asyncio.wait((coming, leaving), return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if left.is_set() else await coming
        finally:
            coming.cancel()
            leaving.cancel()

    return receive_or_leave
