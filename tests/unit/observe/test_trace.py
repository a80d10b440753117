"""Spans: their parents, their ends, and what becomes of them when nobody takes them."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from calotype.errors import BadImageError, InvalidSettingError, MissingExtraError
from calotype.observe import collector, logs, span, trace
from calotype.observe.collector import Outlet, make_provider
from calotype.observe.span import Recorder

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A traceparent that was sampled."""
UNSAMPLED = CLIENT[:-1] + "0"
AWAY = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Seen:
    """What makes spans, and all that have ended."""

    recorder: Recorder
    exporter: InMemorySpanExporter

    def all(self) -> dict[str, ReadableSpan]:
        return {each.name: each for each in self.exporter.get_finished_spans()}


def seeing(share: float = 1.0) -> Seen:
    exporter, provider = InMemorySpanExporter(), make_provider(share, "1")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Seen(Recorder(provider, "1"), exporter)


@pytest.fixture
def seen() -> Seen:
    return seeing()


def id_of(each: ReadableSpan) -> int:
    context = each.get_span_context()
    assert context is not None
    return context.span_id


async def nothing() -> int:
    return 1


async def test_a_span_is_below_the_one_that_it_began_in(seen: Seen) -> None:
    async def outer() -> int:
        return await trace.timed("inner", nothing())

    with seen.recorder.serving("GET", {}, {"url.path": "/"}):
        assert await trace.timed("outer", outer()) == 1
    found = seen.all()
    assert found["inner"].parent is not None
    assert found["inner"].parent.span_id == id_of(found["outer"])
    assert found["outer"].parent is not None
    assert found["outer"].parent.span_id == id_of(found["GET"])
    assert found["GET"].parent is None
    assert found["GET"].kind is SpanKind.SERVER
    assert dict(found["GET"].attributes or {}) == {"url.path": "/"}


async def test_outside_of_a_trace_work_is_returned_as_it_is() -> None:
    work = nothing()
    assert trace.timed("work", work) is work
    assert await work == 1
    assert (trace.current(), trace.trace_id()) == ("", "")
    trace.link(CLIENT)  # there is nothing to link from


def test_a_clients_trace_is_continued(seen: Seen) -> None:
    with seen.recorder.serving("GET", {"traceparent": CLIENT, "tracestate": "a=b"}, {}):
        assert trace.trace_id() == CLIENT.split("-")[1]
        assert trace.current().endswith("-01")
    made = seen.all()["GET"]
    assert made.parent is not None
    assert f"{made.parent.span_id:016x}" == CLIENT.split("-")[2]
    assert made.parent.trace_state == {"a": "b"}


@pytest.mark.parametrize(
    "wrong", ["", "00-0-0-00", "x" * 1000, CLIENT.replace("a", "g"), "00-" + "0" * 52]
)
def test_a_wrong_traceparent_begins_a_trace(seen: Seen, wrong: str) -> None:
    with seen.recorder.serving("GET", {"traceparent": wrong}, {}):
        assert int(trace.trace_id(), 16)
    assert seen.all()["GET"].parent is None


@given(
    traceparent=st.text(st.characters(max_codepoint=255)) | st.just(CLIENT),
    tracestate=st.text(st.characters(max_codepoint=255)),
)
def test_whatever_a_client_sends_the_request_is_served(traceparent: str, tracestate: str) -> None:
    headers = {"traceparent": traceparent, "tracestate": tracestate}
    with seeing().recorder.serving("GET", headers, {}):
        assert trace.current()


def test_who_is_not_sampled_by_its_client_is_not_seen(seen: Seen) -> None:
    with seen.recorder.serving("GET", {"traceparent": UNSAMPLED}, {}) as served:
        assert not served.is_sampled
        served.child("queue").end()
        assert trace.current().endswith("-00")
    assert seen.all() == {}


def test_the_share_is_for_those_whose_client_says_nothing() -> None:
    seen = seeing(share=0.0)
    with seen.recorder.serving("silent", {}, {}):
        pass
    with seen.recorder.serving("sampled", {"traceparent": CLIENT}, {}):
        pass
    assert list(seen.all()) == ["sampled"]


async def test_a_trace_goes_on_in_another_process(seen: Seen) -> None:
    there = seeing()
    with seen.recorder.serving("here", {}, {}):
        told = trace.current()
    with there.recorder.continued(told) as above:
        assert above is not None
        assert above.traceparent == told == trace.current()
        await trace.timed("there", nothing())
    (made,) = there.all().values()
    assert made.parent is not None
    assert made.parent.is_remote
    assert made.parent.span_id == id_of(seen.all()["here"])
    assert trace.current() == ""


def test_continuing_where_one_is_changes_nothing(seen: Seen) -> None:
    with seen.recorder.serving("GET", {}, {}) as served:
        for told in ("", served.traceparent):
            with seen.recorder.continued(told) as same:
                assert same is served
    with seen.recorder.continued("") as none:
        assert none is None


def test_an_error_is_the_status_of_its_span(seen: Seen) -> None:
    with pytest.raises(BadImageError), seen.recorder.serving("GET", {}, {}):
        raise BadImageError("not a picture")
    made = seen.all()["GET"]
    assert made.status.status_code is StatusCode.ERROR
    assert made.status.description == "not a picture"
    assert (made.attributes or {})["error.type"] == "image"


async def test_who_is_cancelled_has_not_failed(seen: Seen) -> None:
    with seen.recorder.serving("GET", {}, {}):
        task = asyncio.ensure_future(trace.timed("wait", asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
    made = seen.all()["wait"]
    assert made.status.status_code is StatusCode.UNSET
    assert (made.attributes or {})["calotype.cancelled"] is True


def test_a_link_points_to_another_span_and_never_to_itself(seen: Seen) -> None:
    with seen.recorder.serving("GET", {}, {}) as served:
        trace.link(served.traceparent)
        trace.link("")
        trace.link(CLIENT)
    (link,) = seen.all()["GET"].links
    assert f"{link.context.trace_id:032x}" == CLIENT.split("-")[1]


def test_a_line_of_the_log_names_its_trace(seen: Seen) -> None:
    record = logging.LogRecord("calotype", logging.INFO, "f.py", 1, "hello", None, None)
    with seen.recorder.serving("GET", {"traceparent": CLIENT}, {}):
        line = json.loads(logs.JsonFormatter().format(record))
    assert line["trace_id"] == CLIENT.split("-")[1]
    assert "trace_id" not in json.loads(logs.JsonFormatter().format(record))


def test_the_environment_may_name_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_provider(1.0, "1.2").resource.attributes["service.name"] == "calotype"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    named = make_provider(1.0, "1.2").resource.attributes
    assert named["service.name"] == "pictures"
    assert named["deployment.environment"] == "test"
    assert named["service.version"] == "1.2"


def test_a_password_in_a_wrong_url_is_not_repeated() -> None:
    with pytest.raises(InvalidSettingError, match="got 'host:4317'") as told:
        trace.open_tracer("grpc://me:hush@host:4317", 1.0)
    assert "hush" not in str(told.value)


class Moody(SpanExporter):
    """Takes spans, or doesn't."""

    def __init__(self) -> None:
        self.is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE if self.is_away else SpanExportResult.SUCCESS


def test_a_collector_that_is_away_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    moody = Moody()
    outlet = Outlet(moody, AWAY)
    with caplog.at_level("INFO"):
        for moody.is_away in (False, True, True, True, False, False):
            outlet.export(())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{AWAY} takes no traces: until it does, they are lost"),
        ("INFO", f"{AWAY} takes traces again"),
    ]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Undo what a collector does to the library's log."""
    theirs = logging.getLogger("opentelemetry")
    before = theirs.level
    yield
    theirs.setLevel(before)


@pytest.mark.usefixtures("quiet")
async def test_spans_for_nobody_hold_up_nothing_and_the_end_is_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(span, "FLUSH_S", 0.2)
    monkeypatch.setattr(collector, "EXPORT_S", 1.0)
    tracer = trace.open_tracer(AWAY, 1.0)
    assert tracer is not None
    began_s = time.monotonic()
    for _ in range(5000):  # more than are kept
        with tracer.serving("GET", {}, {}):
            pass
    await tracer.close()
    assert time.monotonic() - began_s < 20  # the library alone would try for half a minute
    names = {record.name for record in caplog.records}
    assert names <= {"calotype.observe.collector"}, "the library's own lines"
    (sending,) = [t for t in threading.enumerate() if t.name.startswith("OtelBatch")]
    assert sending.daemon, "it would hold up the end of the process"
    await asyncio.to_thread(sending.join, 20)


def test_no_url_is_no_tracer() -> None:
    assert trace.open_tracer("", 1.0) is None


def test_a_url_is_checked() -> None:
    with pytest.raises(InvalidSettingError, match=r"trace_url .* got 'collector:4318'"):
        trace.open_tracer("collector:4318", 1.0)


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calotype.observe.collector", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calotype\[otel\]'"):
        trace.open_tracer(AWAY, 1.0)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("url", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
async def test_the_path_of_traces_may_be_left_out(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    asked: list[str] = []

    def exporter(endpoint: str, timeout: float) -> InMemorySpanExporter:
        assert timeout
        asked.append(endpoint)
        return InMemorySpanExporter()

    monkeypatch.setattr(collector, "OTLPSpanExporter", exporter)
    tracer = trace.open_tracer(url, 1.0)
    assert tracer is not None
    await tracer.close()
    assert asked == ["http://c:4318/v1/traces"]


SERVE = """
import asyncio, sys, httpx
from calotype.assembly import assemble, create_server
from calotype.settings import Settings

async def main():
    settings = Settings(data_dir=sys.argv[1], cache_dir=sys.argv[1], isolation="thread")
    app = create_server(assemble(settings))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
        answer = await client.post("http://test/models/inpaint", content=b"no picture")
        assert answer.status_code == 400, answer.text

asyncio.run(main())
found = [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
sys.exit(", ".join(found) or 0)
"""


def test_without_the_setting_nothing_of_opentelemetry_is_imported(tmp_path: Path) -> None:
    told = [sys.executable, "-c", SERVE, str(tmp_path)]
    done = subprocess.run(told, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
