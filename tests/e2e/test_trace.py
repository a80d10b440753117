"""Traces of a server whose models run in processes of their own, as a collector gets them."""

import contextlib
import io
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from PIL import Image

from e2e.server import Server, serving

CATALOG = """
[[model]]
id = "t/steps"
backend = "fake"
[model.options]
steps = 4
step_s = 0.1
[[model]]
id = "t/dies"
backend = "fake"
[model.options]
fail = "kill"
"""
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = {"x-wait-for-model": "true", "accept": "image/png", "traceparent": CLIENT}
ROUTE = "POST /models/{id}"


class Collector:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.url = ""
        self.services: set[str] = set()
        self._spans: list[Span] = []
        self._came = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            for each in request.resource_spans:
                self.services |= {
                    pair.value.string_value
                    for pair in each.resource.attributes
                    if pair.key == "service.name"
                }
                for scope in each.scope_spans:
                    self._spans.extend(scope.spans)
            self._came.notify_all()

    def wait(self, name: str, number: int = 1) -> list[Span]:
        """Wait for so many spans of a name; return all spans."""

        def there() -> bool:
            return sum(span.name == name for span in self._spans) >= number

        with self._came:
            assert self._came.wait_for(there, 20), [span.name for span in self._spans]
            return self._spans[:]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def traced(folder: Path, url: str) -> Iterator[Server]:
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    told = ("--catalog-file", str(catalog), "--trace-url", url, "--log-format", "json")
    with serving(folder, *told) as server:
        yield server


def post(server: Server, model: str) -> httpx.Response:
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "PNG")
    url = f"{server.url}/models/{model}"
    return httpx.post(url, content=file.getvalue(), headers=HEADERS, timeout=60)


def values(span: Span) -> dict[str, object]:
    def value(each: AnyValue) -> object:
        return getattr(each, each.WhichOneof("value") or "string_value")

    return {pair.key: value(pair.value) for pair in span.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def test_spans_of_steps_in_another_process_reach_the_collector(
    tmp_path: Path, collector: Collector
) -> None:
    with traced(tmp_path, collector.url) as server:
        assert post(server, "t/steps").status_code == 200
        spans = collector.wait(ROUTE)
        assert '"trace_id": "0af7651916cd43dd8448eb211c80319c"' in server.said
    assert collector.services == {"calotype"}
    assert {span.trace_id.hex() for span in spans} == {CLIENT.split("-")[1]}
    by_id = {span.span_id: span.name for span in spans}
    (root,) = [span for span in spans if span.name == ROUTE]
    assert root.parent_span_id.hex() == CLIENT.split("-")[2]
    above = {(span.name, by_id[span.parent_span_id]) for span in spans if span is not root}
    waits = {(name, ROUTE) for name in ("cache.get", "decode", "load", "queue", "run")}
    assert above == waits | {("step", "run"), ("encode", ROUTE), ("cache.put", ROUTE)}
    steps = [values(span) for span in spans if span.name == "step"]
    assert sum(int(str(step["calotype.steps_made"])) for step in steps) == 4
    (load,) = [span for span in spans if span.name == "load"]
    assert load.end_time_unix_nano > load.start_time_unix_nano


def test_a_worker_that_is_lost_leaves_a_run_that_failed(
    tmp_path: Path, collector: Collector
) -> None:
    with traced(tmp_path, collector.url) as server:
        assert post(server, "t/dies").status_code == 500
        server.signal(signal.SIGTERM)
        assert server.wait() == 0  # and what was not sent is sent
        spans = collector.wait("run", 2)
    runs = [span for span in spans if values(span).get("calotype.model") == "t/dies"]
    runs = [span for span in runs if span.name == "run"]
    told = [(values(run)["calotype.attempt"], values(run)["error.type"]) for run in runs]
    assert told == [(1, "worker_lost"), (2, "backend")]
    assert {run.status.code for run in runs} == {Status.STATUS_CODE_ERROR}


def test_a_collector_that_is_away_costs_no_request_and_little_time(tmp_path: Path) -> None:
    with traced(tmp_path, "http://127.0.0.1:9") as server:
        assert post(server, "t/steps").status_code == 200
        server.signal(signal.SIGTERM)
        began_s = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - began_s < 15
        assert "Traceback" not in server.said
        assert server.said.count("takes no traces") <= 1
