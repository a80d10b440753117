"""One request and its answer: the id, the log line, the numbers, and what becomes of errors."""

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calotype.api.header import join_headers, kept_request_id
from calotype.api.openai import OPENAI_PATH, write_error
from calotype.api.presence import ClientGoneError
from calotype.api.problems import Dialect, plain, problem
from calotype.domain.chain import Chain
from calotype.domain.text import printable
from calotype.errors import shutting_down
from calotype.observe import metrics
from calotype.observe.logs import REQUEST_ID

access = logging.getLogger("calotype.access")

KEY: Final = "calotype.exchange"
"""Where an ASGI scope holds its exchange."""

CHAIN = "chain"
"""What the metrics call every chain: clients make up as many as they like."""

CLIENT_GONE = 499
"""Logged in place of a status when the client left before there was one. Source: nginx."""

# To look a metric's child up takes longer than to count with it.
_requests = functools.lru_cache(maxsize=1024)(metrics.REQUESTS.labels)
_duration = functools.lru_cache(maxsize=1024)(metrics.DURATION.labels)

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_PATH_CHARS = 200
_LINE = "%s %s %d %.1f ms %s"


class Exchange:
    """One request and its answer, while they last.

    Args:
        scope: of the request.
    """

    __slots__ = (
        "answer_bytes",
        "cache",
        "dialect",
        "extra",
        "headers",
        "label",
        "model",
        "received_s",
        "request_id",
        "started_s",
        "status",
    )

    def __init__(self, scope: Scope) -> None:
        self.started_s = time.monotonic()
        self.received_s = 0.0
        self.dialect = dialect_of(scope["path"])
        """How an error is written."""
        self.headers: Mapping[bytes, bytes] = join_headers(scope["headers"])
        self.request_id = kept_request_id(self.headers) or secrets.token_hex(16)
        self.model = ""
        """Id of the model that was asked, once it is known; of a chain, all of them."""
        self.label = ""
        """What the metrics call it."""
        self.cache = ""
        self.extra: list[tuple[bytes, bytes]] = [
            (b"x-request-id", self.request_id.encode()),
            _NOSNIFF,
        ]
        """Headers of the answer, whatever the answer will be."""
        self.status = 0
        self.answer_bytes = 0

    def asked(self, chain: Chain) -> None:
        """Note what was asked."""
        self.model = chain.spec.id
        self.label = self.model if chain.is_single else CHAIN

    def received(self, size_bytes: int) -> None:
        """Note that the body is here."""
        self.received_s = time.monotonic()
        metrics.UPLOAD.inc(size_bytes)

    def sent(self, status: int) -> None:
        """Note that the answer begins."""
        self.status = status
        if self.received_s:
            _duration(self.label).observe(time.monotonic() - self.received_s)

    def finish(self, scope: Scope) -> None:
        """Count and log what happened."""
        status = self.status or CLIENT_GONE
        _requests(self.label, status).inc()
        if not access.isEnabledFor(logging.INFO):
            return
        method, path = scope["method"], scope["path"]
        if not (path.isascii() and path.isprintable() and len(path) <= _PATH_CHARS):
            path = printable(path, _PATH_CHARS)
        took_ms = round((time.monotonic() - self.started_s) * 1000, 1)
        fields = {
            "method": method,
            "path": path,
            "status": status,
            "ms": took_ms,
            "model": self.model,
            "cache": self.cache,
            "bytes": self.answer_bytes,
        }
        args = (method, path, status, took_ms, self.cache or "-")
        # As access.info() does, without the search for the line of code that called it.
        access.handle(
            access.makeRecord(
                access.name, logging.INFO, __file__, 0, _LINE, args, None, extra=fields
            )
        )


def dialect_of(path: str) -> Dialect:
    """Return how errors are written to whoever asks for a path."""
    return write_error if f"{path}/".startswith(OPENAI_PATH) else plain


class Doorway:
    """Stands around the application: begins and ends every exchange.

    Args:
        app: raises what it cannot serve.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[KEY] = Exchange(scope)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.sent(message["status"])
                message["headers"] = [*message["headers"], *exchange.extra]
            else:
                exchange.answer_bytes += len(message.get("body", b""))
            await send(message)

        before = REQUEST_ID.set(exchange.request_id)
        try:
            await self._app(scope, receive, send_on)
        except ClientGoneError:
            pass
        except (Exception, asyncio.CancelledError) as error:
            if exchange.status:
                raise  # too late for another answer: the server must close the connection
            # Who cancels is the server that ends, and has waited as long as it may.
            told = error if isinstance(error, Exception) else shutting_down()
            await problem(told, exchange.dialect)(scope, receive, send_on)
        finally:
            exchange.finish(scope)
            REQUEST_ID.reset(before)
