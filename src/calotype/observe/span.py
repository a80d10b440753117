"""Spans of OpenTelemetry: what ``observe.trace`` asks for, where there is a collector."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from calotype.errors import CalotypeError
from calotype.observe.trace import Span, Value, as_current, ending, here

FLUSH_S = 2.0
"""What the last spans get to be sent when the server ends."""

_propagator = TraceContextTextMapPropagator()


class RecordedSpan:
    """Something that takes time; fills ``Span``.

    Args:
        tracer: makes those below.
        span: of another process, it can be a parent and nothing else.
    """

    __slots__ = ("_span", "_tracer", "is_sampled", "trace_id", "traceparent")

    def __init__(self, tracer: otel.Tracer, span: otel.Span) -> None:
        self._tracer, self._span = tracer, span
        context = span.get_span_context()
        self.is_sampled = context.trace_flags.sampled
        """Whether anybody will see it."""
        self.trace_id = f"{context.trace_id:032x}"
        """What all spans of one request share."""
        self.traceparent = f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"
        """What names it to other processes."""

    def child(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        *,
        began_ns: int | None = None,
    ) -> "RecordedSpan":
        """Begin a span below this one."""
        above = otel.set_span_in_context(self._span, Context())
        span = self._tracer.start_span(name, above, attributes=attributes, start_time=began_ns)
        return RecordedSpan(self._tracer, span)

    def tell(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Give it a name that was not known when it began."""
        self._span.update_name(name)

    def fail(self, kind: str, text: str | None = None) -> None:
        """Mark it as failed."""
        self.tell({"error.type": kind})
        self._span.set_status(otel.StatusCode.ERROR, text)

    def link(self, trace: str) -> None:
        """Point to another span, by its traceparent."""
        if trace and trace != self.traceparent:
            self._span.add_link(_remote(trace).get_span_context())

    def end(self, error: BaseException | None = None, *, ended_ns: int | None = None) -> None:
        """End it, failed if there is an error; to be cancelled is no failure."""
        if isinstance(error, asyncio.CancelledError):
            self.tell({"calotype.cancelled": True})
        elif error is not None:
            kind = error.kind if isinstance(error, CalotypeError) else type(error).__name__
            self.fail(kind, str(error))
        self._span.end(ended_ns)


class Recorder:
    """Begins traces, and goes on with those of others; fills ``Tracer``.

    Args:
        provider: closed with this.
        version: of Calotype.
    """

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("calotype", version)

    @contextlib.contextmanager
    def serving(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Value]
    ) -> Iterator[Span]:
        """Stand around the serving of one request."""
        above = _propagator.extract(headers, Context())
        made = self._tracer.start_span(name, above, otel.SpanKind.SERVER, attributes)
        span = RecordedSpan(self._tracer, made)
        with as_current(span), ending(span):
            yield span

    @contextlib.contextmanager
    def continued(self, trace: str) -> Iterator[Span | None]:
        """Make spans below one of another process, or of another task."""
        span = here()
        if not trace or (span is not None and span.traceparent == trace):
            yield span
            return
        with as_current(RecordedSpan(self._tracer, _remote(trace))) as above:
            yield above

    async def close(self) -> None:
        """Send the last spans, as far as the collector takes them within a moment."""
        # The library would wait for as long as it tries to reach a collector that is away.
        thread = threading.Thread(target=self._provider.shutdown, name="trace-close", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, FLUSH_S)


def _remote(trace: str) -> otel.Span:
    """Return a span of another process; one that is in no trace, if this names none."""
    return otel.get_current_span(_propagator.extract({"traceparent": trace}, Context()))
