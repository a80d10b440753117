"""Where spans go: to a collector of OpenTelemetry, in the background.

Imported by ``observe.trace`` only once it is needed, for this imports OpenTelemetry.
"""

import importlib.metadata
import logging
import os
import socket
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from calotype.observe.span import Recorder

logger = logging.getLogger(__name__)

EXPORT_S = 5.0
"""Within which a collector has to take what it is sent."""
SEND_EVERY_MS = 1000
PATH = "/v1/traces"
"""Source: OpenTelemetry's protocol over HTTP."""


def collecting(url: str, share: float) -> Recorder:
    """Return what makes spans, and sends them to a collector.

    Args:
        url: of the collector, with or without the path of traces.
        share: of the requests that are traced, of those whose sender doesn't say.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        # It would tell of each try, and of each span that is lost; `Outlet` says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    endpoint = url.rstrip("/").removesuffix(PATH) + PATH
    shown = endpoint.rpartition("@")[2]  # the log is no place for a password
    outlet = Outlet(OTLPSpanExporter(endpoint, timeout=EXPORT_S), shown)
    version = importlib.metadata.version("calotype")
    provider = make_provider(share, version)
    provider.add_span_processor(BatchSpanProcessor(outlet, schedule_delay_millis=SEND_EVERY_MS))
    return Recorder(provider, version)


def make_provider(share: float, version: str) -> TracerProvider:
    """Return what makes spans that nobody sees yet; variables ``OTEL_*`` may name this server."""
    own = Resource.create(
        {
            "service.name": "calotype",
            "service.version": version,
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
    )
    return TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=own.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,  # that could take long
    )


class Outlet(SpanExporter):
    """Says once that the collector is away, and once that it is back.

    Args:
        exporter: sends spans.
        endpoint: where to, as the log may name it.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter, self._endpoint = exporter, endpoint
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, on the thread that does nothing else."""
        result = self._exporter.export(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away and not self._is_away:
            logger.warning("%s takes no traces: until it does, they are lost", self._endpoint)
        elif self._is_away and not is_away:
            logger.info("%s takes traces again", self._endpoint)
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()
