"""Traces: where the time of one request went, through tasks, processes and machines.

Without the setting ``trace_url`` nothing of OpenTelemetry is imported, and there is no span. Spans
are made only below another one: the first of a request is the HTTP layer's.

Source: W3C Trace Context, which a ``traceparent`` is of.
"""

import contextlib
import contextvars
import importlib
from collections.abc import Awaitable, Iterator, Mapping
from typing import Protocol, TypeVar, cast

from calotype.errors import InvalidSettingError, MissingExtraError

T = TypeVar("T")
Value = str | int | float | bool


class Span(Protocol):
    """Something that takes time, on behalf of one request; thread-safe."""

    @property
    def traceparent(self) -> str:
        """What names it to other processes."""
        ...

    @property
    def trace_id(self) -> str:
        """What all spans of one request share."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether anybody will see it."""
        ...

    def child(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        *,
        began_ns: int | None = None,
    ) -> "Span":
        """Begin a span below this one.

        Args:
            name: one of few.
            attributes: what is known of it.
            began_ns: since 1970; None: now.
        """
        ...

    def tell(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        ...

    def rename(self, name: str) -> None:
        """Give it a name that was not known when it began."""
        ...

    def fail(self, kind: str, text: str | None = None) -> None:
        """Mark it as failed.

        Args:
            kind: one of few.
            text: what happened.
        """
        ...

    def link(self, trace: str) -> None:
        """Point to another span, by its traceparent."""
        ...

    def end(self, error: BaseException | None = None, *, ended_ns: int | None = None) -> None:
        """End it, failed if there is an error; to be cancelled is no failure.

        Args:
            error: with which it ended.
            ended_ns: since 1970; None: now.
        """
        ...


class Tracer(Protocol):
    """Begins traces, and goes on with those of others."""

    def serving(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Value]
    ) -> contextlib.AbstractContextManager[Span]:
        """Stand around the serving of one request.

        Args:
            name: until its route is known.
            headers: of the request: ``traceparent`` and ``tracestate``, where it has them.
            attributes: what is known of it.
        """
        ...

    def continued(self, trace: str) -> contextlib.AbstractContextManager[Span | None]:
        """Make spans below one of another process, or of another task.

        Args:
            trace: what ``current`` returned there; where it is empty, nothing changes.
        """
        ...

    async def close(self) -> None:
        """Send the last spans, as far as the collector takes them within a moment."""
        ...


_CURRENT: contextvars.ContextVar[Span | None] = contextvars.ContextVar("span", default=None)


def open_tracer(url: str, share: float) -> Tracer | None:
    """Return what makes spans, and sends them to a collector of OpenTelemetry.

    Args:
        url: of the collector, with or without the path of traces; empty: there is none.
        share: of the requests that are traced, of those whose sender doesn't say.

    Raises:
        InvalidSettingError: the URL is none.
        MissingExtraError: OpenTelemetry isn't installed.
    """
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        shown = url.rpartition("@")[2]  # without a password
        raise InvalidSettingError(f"trace_url must begin with http:// or https://, got {shown!r}")
    try:
        collector = importlib.import_module("calotype.observe.collector")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "trace_url needs OpenTelemetry: pip install 'calotype[otel]'"
        ) from error
    return cast("Tracer", collector.collecting(url, share))


def here() -> Span | None:
    """Return the span that goes on here."""
    return _CURRENT.get()


def current() -> str:
    """Return what names the span that goes on here to other processes; empty if there is none."""
    span = _CURRENT.get()
    return span.traceparent if span else ""


def trace_id() -> str:
    """Return what all spans of this request share; empty if there are none."""
    span = _CURRENT.get()
    return span.trace_id if span else ""


def link(trace: str) -> None:
    """Point from the span that goes on here to another, by its traceparent."""
    if (span := _CURRENT.get()) is not None:
        span.link(trace)


def timed(name: str, work: Awaitable[T]) -> Awaitable[T]:
    """Return the work, within a span of its own where one goes on already."""
    above = _CURRENT.get()
    return work if above is None else _within(above.child(name), work)


@contextlib.contextmanager
def as_current(span: Span) -> Iterator[Span]:
    """Make spans below this one."""
    before = _CURRENT.set(span)
    try:
        yield span
    finally:
        _CURRENT.reset(before)


@contextlib.contextmanager
def ending(span: Span) -> Iterator[None]:
    """End a span with the block, failed if that fails."""
    try:
        yield
    except BaseException as error:
        span.end(error)
        raise
    span.end()


async def _within(span: Span, work: Awaitable[T]) -> T:
    with as_current(span), ending(span):
        return await work
