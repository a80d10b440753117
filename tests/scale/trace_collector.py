"""A collector of OpenTelemetry, which keeps what the processes of a cluster send it."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Sent:
    """A span, and the process that sent it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    process: int


@dataclass(slots=True)
class TraceCollector:
    """What has come in so far."""

    url: str = ""
    spans: list[Sent] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Sent]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, body: bytes) -> None:
        """Keep the spans in a request."""
        for sender in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value for one in sender.resource.attributes}
            process = about["process.pid"].int_value
            self.spans += [
                Sent(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    process,
                )
                for scope in sender.scope_spans
                for span in scope.spans
            ]


@contextlib.contextmanager
def collecting() -> Iterator[TraceCollector]:
    """Collect on loopback."""
    collector = TraceCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            collector.take(body)
            self.send_response(200 if self.path == PATH else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()
