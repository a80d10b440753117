"""The first span of each request: what came in, what was asked for, and the answer."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calotype.api.exchange import KEY, Exchange
from calotype.domain.text import printable
from calotype.observe.trace import Span, Tracer, Value

SILENT: Final = frozenset(("/health", "/ready", "/metrics"))
"""Paths that are asked every few seconds, and tell of no work."""

_CONTEXT = (b"traceparent", b"tracestate")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_CHARS = 200
_FAILED = 500
"""From this status on, it is the server that failed."""


class Traced:
    """Stands around the application where there is a collector of traces.

    Args:
        app: with the doorway.
        tracer: makes the spans.

    Source:
        OpenTelemetry, Semantic Conventions for HTTP Spans.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in SILENT:
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        context = {name.decode(): headers[name] for name in _CONTEXT if name in headers}
        told = _asked(scope, headers)
        with self._tracer.serving(str(told["http.request.method"]), context, told) as span:
            try:
                await self._app(scope, receive, send_on)
            finally:
                if span.is_sampled:
                    _answered(span, scope, status)


def _asked(scope: Scope, headers: Mapping[bytes, str]) -> dict[str, Value]:
    """Return what is known of a request before it is looked at."""
    method = scope["method"]
    told: dict[str, Value] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope["scheme"],
        "url.path": printable(scope["path"], _CHARS),
        "network.protocol.version": scope["http_version"],
    }
    for end, name in (("server", "server"), ("client", "client")):
        if address := scope.get(end):
            told[f"{name}.address"] = address[0]
            told[f"{name}.port"] = address[1] or 0
    if agent := headers.get(b"user-agent"):
        told["user_agent.original"] = printable(agent, _CHARS)
    return told


def _answered(span: Span, scope: Scope, status: int) -> None:
    """Tell what became of a request."""
    exchange: Exchange = scope[KEY]
    told: dict[str, Value] = {"calotype.request_id": exchange.request_id}
    if exchange.model:
        told["calotype.model"] = exchange.model
    if exchange.cache:
        told["calotype.cache"] = exchange.cache
    if route := _route(scope):
        told["http.route"] = route
        span.rename(f"{scope['method']} {route}")
    if status:
        told["http.response.status_code"] = status
    else:
        told["calotype.cancelled"] = True  # its client left before there was an answer
    span.tell(told)
    if status >= _FAILED:
        span.fail(str(status))


def _route(scope: Scope) -> str:
    """Return the pattern that a path is of; empty where the server has nothing."""
    for route in Request(scope).app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] == Match.FULL:
            return route.path_format
    return ""
