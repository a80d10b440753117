"""The spans of whole requests."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from api.server import (
    ECHO,
    LONG,
    Gate,
    Line,
    Server,
    begin,
    fake,
    in_work,
    picture,
    serving,
    until,
)
from calotype.observe import collector, logs

pytestmark = pytest.mark.inside

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
URL = "http://127.0.0.1:9"
SLOW = fake("slow", step_s=0.001, steps=4)
ROUTE = "POST /models/{id}"


class Collector:
    """Takes the spans of a server, in the place of what would send them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    async def of(self, server: Server) -> list[ReadableSpan]:
        """Return all spans of a server, which has none after that; the first to begin first."""
        tracer = server.services.tracer
        assert tracer is not None
        await tracer.close()
        return sorted(self.exporter.get_finished_spans(), key=lambda s: s.start_time or 0)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Collector:
    found = Collector()
    monkeypatch.setattr(collector, "OTLPSpanExporter", lambda *_, **__: found.exporter)
    monkeypatch.setattr(logging.getLogger("opentelemetry"), "level", logging.CRITICAL)
    return found


@pytest.fixture
async def server(tmp_path: Path, spans: Collector) -> AsyncIterator[Server]:
    del spans
    specs = (
        ECHO,
        SLOW,
        fake("fails", fail="crash"),
        fake("long", **LONG),
        fake("none", fail="load"),
    )
    async with serving(tmp_path, *specs, trace_url=URL) as started:
        yield started


def named(found: list[ReadableSpan], name: str) -> ReadableSpan:
    (only,) = [each for each in found if each.name == name]
    return only


def said(each: ReadableSpan) -> dict[str, object]:
    return dict(each.attributes or {})


def context(each: ReadableSpan) -> SpanContext:
    found = each.get_span_context()
    assert found is not None
    return found


def above(found: list[ReadableSpan], each: ReadableSpan) -> str:
    """Return the name of the span that one is below; empty for none of these."""
    names = {context(s).span_id: s.name for s in found}
    return names.get(each.parent.span_id, "") if each.parent else ""


async def test_a_request_is_a_tree_of_spans(server: Server, spans: Collector) -> None:
    answer = await server.run("slow", headers={"x-request-id": "mine", "user-agent": "me"})
    assert answer.status_code == 200
    found = await spans.of(server)
    tree = [(each.name, above(found, each)) for each in found]
    below = [*(("step", "run"),) * 4, *(((name, ROUTE)) for name in ("encode", "cache.put"))]
    waits = [(name, ROUTE) for name in ("cache.get", "decode", "load", "queue", "run")]
    assert tree == [(ROUTE, ""), *waits, *below]
    root = named(found, ROUTE)
    assert root.kind is SpanKind.SERVER
    assert root.status.status_code is StatusCode.UNSET
    assert said(root) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/models/{id}",
        "url.path": "/models/slow",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "test",
        "server.port": 0,
        "client.address": "127.0.0.1",
        "client.port": 123,
        "user_agent.original": "me",
        "calotype.request_id": "mine",
        "calotype.model": "test/slow",
        "calotype.cache": "miss",
    }
    run = {"calotype.attempt": 1, "calotype.batch_size": 1, "calotype.device": "cpu"}
    assert said(named(found, "run")) == {"calotype.model": "test/slow", **run}
    steps = [said(each) for each in found if each.name == "step"]
    assert [(s["calotype.step"], s["calotype.steps"], s["calotype.steps_made"]) for s in steps] == [
        (number, 4, 1) for number in (1, 2, 3, 4)
    ]


async def test_one_ends_where_the_next_begins(server: Server, spans: Collector) -> None:
    await server.run("slow")
    found = await spans.of(server)
    chain = [each for each in found if each.name in ("load", "queue", "run")]
    for before, after in itertools.pairwise(chain):
        assert before.end_time == after.start_time
    root = named(found, ROUTE)
    for each in found:
        assert (root.start_time or 0) <= (each.start_time or 0) <= (each.end_time or 0)
        assert (each.end_time or 0) <= (root.end_time or 0)


async def test_the_clients_trace_is_continued(server: Server, spans: Collector) -> None:
    await server.run(headers={"traceparent": CLIENT, "tracestate": "vendor=1"})
    found = await spans.of(server)
    trace_ids = {f"{context(each).trace_id:032x}" for each in found}
    assert trace_ids == {CLIENT.split("-")[1]}
    root = named(found, ROUTE)
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == CLIENT.split("-")[2]
    assert all(context(each).trace_state == {"vendor": "1"} for each in found)


async def test_a_client_may_ask_for_no_trace(server: Server, spans: Collector) -> None:
    assert (await server.run(headers={"traceparent": CLIENT[:-1] + "0"})).status_code == 200
    assert await spans.of(server) == []


async def test_a_hit_has_only_its_look_up(server: Server, spans: Collector) -> None:
    await server.run()
    await server.run()
    found = await spans.of(server)
    (hit,) = [each for each in found if said(each).get("calotype.cache") == "hit"]
    below = [s.name for s in found if s.parent and s.parent.span_id == context(hit).span_id]
    assert below == ["cache.get"]


async def test_who_shares_an_answer_points_to_who_computes_it(
    server: Server, spans: Collector, gate: Gate
) -> None:
    first = begin(server, "first")
    await gate.reached()
    second = begin(server, "second")

    async def joined() -> bool:
        told = (await server.client.get("/requests/second")).json()
        return bool(told.get("state") == "running")

    await until(joined)
    gate.open()
    assert (await second).headers["x-cache"] == "coalesced"
    await first
    found = await spans.of(server)
    roots = {said(each)["calotype.request_id"]: each for each in found if each.name == ROUTE}
    (link,) = roots["second"].links
    first_span = context(roots["first"])
    assert (link.context.trace_id, link.context.span_id) == (
        first_span.trace_id,
        first_span.span_id,
    )
    assert not roots["first"].links
    assert [above(found, each) for each in found if each.name == "run"] == [ROUTE]
    run = named(found, "run")
    assert run.parent is not None
    assert run.parent.span_id == first_span.span_id


async def test_what_failed_has_the_status_of_an_error(server: Server, spans: Collector) -> None:
    assert (await server.run("fails")).status_code == 500
    found = await spans.of(server)
    root, run = named(found, ROUTE), named(found, "run")
    assert root.status.status_code is StatusCode.ERROR
    assert said(root)["error.type"] == "500"
    assert run.status.status_code is StatusCode.ERROR
    assert said(run)["error.type"] == "backend"
    assert "encode" not in {each.name for each in found}


async def test_the_fault_of_a_client_is_none_of_the_server(
    server: Server, spans: Collector
) -> None:
    assert (await server.run(upload=picture()[:-40])).status_code == 400
    found = await spans.of(server)
    root, decode = named(found, ROUTE), named(found, "decode")
    assert root.status.status_code is StatusCode.UNSET
    assert said(root)["http.response.status_code"] == 400
    assert decode.status.status_code is StatusCode.ERROR
    assert said(decode)["error.type"] == "image"
    assert {each.name for each in found} == {ROUTE, "cache.get", "decode"}


async def test_a_model_that_cannot_be_loaded_ends_the_wait_for_it(
    server: Server, spans: Collector
) -> None:
    assert (await server.run("none")).status_code == 500
    load = named(await spans.of(server), "load")
    assert load.status.status_code is StatusCode.ERROR
    assert said(load)["error.type"] == "config"


async def test_who_leaves_ends_all_spans(server: Server, spans: Collector) -> None:
    line = Line(picture())
    task = line.post(server, "/models/long", accept="image/png")
    await in_work(server, "long")
    line.left.set()
    await task
    found = await spans.of(server)
    gone = [each for each in found if said(each).get("calotype.cancelled")]
    assert {each.name for each in gone} >= {ROUTE, "run"}
    assert all(each.status.status_code is StatusCode.UNSET for each in gone)
    assert "http.response.status_code" not in said(named(gone, ROUTE))


async def test_a_job_that_outlives_its_request_is_below_it(
    server: Server, spans: Collector
) -> None:
    answer = await server.run("slow", headers={"prefer": "respond-async", "x-request-id": "job"})
    assert answer.status_code == 202
    done = await server.client.get("/requests/job/result", headers={"prefer": "wait=20"})
    assert done.status_code == 200
    found = await spans.of(server)
    assert above(found, named(found, "run")) == ROUTE
    assert "GET /requests/{request_id}/result" in {each.name for each in found}


async def test_every_stage_of_a_chain_has_a_run(server: Server, spans: Collector) -> None:
    assert (await server.run("echo+slow")).status_code == 200
    found = await spans.of(server)
    runs = [said(each)["calotype.model"] for each in found if each.name == "run"]
    assert runs == ["test/echo", "test/slow"]
    assert said(named(found, ROUTE))["calotype.model"] == "test/echo+test/slow"
    assert [above(found, each) for each in found if each.name == "step"] == ["run"] * 4


async def test_what_is_asked_every_few_seconds_is_not_traced(
    server: Server, spans: Collector
) -> None:
    for path in ("/health", "/ready", "/metrics", "/models", "/nowhere"):
        await server.client.get(path)
    assert [each.name for each in await spans.of(server)] == ["GET /models", "GET"]


async def test_the_log_names_the_trace(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    formatter = logs.JsonFormatter()

    class Writer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(formatter.format(record))

    access, writer = logging.getLogger("calotype.access"), Writer()
    access.addHandler(writer)
    try:
        with caplog.at_level("INFO"):
            await server.run(headers={"traceparent": CLIENT})
    finally:
        access.removeHandler(writer)
    (line,) = map(json.loads, written)
    assert line["trace_id"] == CLIENT.split("-")[1]


async def test_a_thousand_steps_are_seen_and_no_more(
    tmp_path: Path, spans: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.execution.trail.MAX_STEPS", 3)
    async with serving(tmp_path, fake("many", steps=10), trace_url=URL) as server:
        await server.run("many")
        found = await spans.of(server)
    steps = [said(each)["calotype.step"] for each in found if each.name == "step"]
    assert steps == [1, 2, 3]


async def test_many_at_once_keep_their_spans_apart(server: Server, spans: Collector) -> None:
    answers = await asyncio.gather(*(server.run("slow", picture(seed=n)) for n in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    found = await spans.of(server)
    roots = [context(each).span_id for each in found if each.name == ROUTE]
    runs = [each for each in found if each.name == "run"]
    assert sorted(each.parent.span_id for each in runs if each.parent) == sorted(roots)
    by_run = {context(each).span_id: 0 for each in runs}
    for step in (each for each in found if each.name == "step"):
        assert step.parent is not None
        by_run[step.parent.span_id] += 1
    assert set(by_run.values()) == {4}
