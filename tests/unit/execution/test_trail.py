"""The spans of a job follow what its hooks are told."""

from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from calotype.domain.event import Entered, Event, Loading, Preview, Progress, Queued, Started
from calotype.domain.hooks import Hooks
from calotype.domain.request import Job, Outcome
from calotype.errors import QueueFullError
from calotype.execution.trail import followed
from calotype.observe.collector import make_provider
from calotype.observe.span import Recorder
from unit.execution.scripted import job, spec

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SILENT = ABOVE[:-1] + "0"


class Run:
    """A pool that tells a job's hooks of some events, then answers or fails."""

    def __init__(self, *events: Event, error: Exception | None = None) -> None:
        self._events, self._error = events, error
        self.job: Job | None = None

    async def __call__(self, job: Job) -> Outcome:
        self.job = job
        for event in self._events:
            job.hooks.happened(event)
        if self._error is not None:
            raise self._error
        return Outcome(image=job.image, batch_size=3, device="gpu")


async def follow(run: Run, trace: str = ABOVE) -> list[ReadableSpan]:
    """Return the spans of a job that is part of a trace; the first to begin first."""
    exporter, provider = InMemorySpanExporter(), make_provider(1.0, "1")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await followed(run, replace(job(spec()), trace=trace), Recorder(provider, "1"))
    return list(exporter.get_finished_spans())


def said(each: ReadableSpan, name: str) -> object:
    return (each.attributes or {}).get(f"calotype.{name}")


def names(spans: list[ReadableSpan]) -> list[str]:
    return [each.name for each in spans]


STEPS = tuple(Progress(done, 3) for done in range(4))


async def test_each_wait_and_the_run_is_a_span() -> None:
    waits = (Loading(1.0), Queued(2), Queued(1), Started())
    spans = await follow(Run(*waits, Entered("x"), Preview(b""), *STEPS))
    assert names(spans) == ["load", "queue", "step", "step", "step", "run"]
    run = spans[-1]
    assert (said(run, "batch_size"), said(run, "device"), said(run, "attempt")) == (3, "gpu", 1)
    assert {each.parent.span_id for each in spans if each.parent and each.name != "step"} == {
        0xB7AD6B7169203331
    }


async def test_a_job_that_does_not_wait_has_a_short_span_of_the_queue() -> None:
    assert names(await follow(Run(Started()))) == ["queue", "run"]


async def test_a_run_that_was_lost_is_told_from_the_next() -> None:
    spans = await follow(Run(Started(), *STEPS[:2], Queued(1), Started(), *STEPS))
    assert names(spans) == ["queue", "step", "run", "queue", "step", "step", "step", "run"]
    lost, ran = (each for each in spans if each.name == "run")
    assert (said(lost, "attempt"), said(ran, "attempt")) == (1, 2)
    assert lost.status.status_code is StatusCode.ERROR
    assert ran.status.status_code is StatusCode.UNSET


async def test_a_run_that_begins_again_with_smaller_tiles_goes_on_counting() -> None:
    events = (Progress(0, 2), Progress(1, 2), Progress(0, 8), Progress(5, 8), Progress(8, 8))
    spans = await follow(Run(Started(), *events))
    steps = [each for each in spans if each.name == "step"]
    assert [(said(s, "step"), said(s, "steps"), said(s, "steps_made")) for s in steps] == [
        (1, 2, 1),
        (5, 8, 5),
        (8, 8, 3),
    ]


async def test_of_a_single_step_the_run_says_all() -> None:
    spans = await follow(Run(Started(), Progress(0, 1), Progress(1, 1)))
    assert names(spans) == ["queue", "run"]


async def test_what_is_refused_fails_in_the_queue() -> None:
    exporter, provider = InMemorySpanExporter(), make_provider(1.0, "1")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    run = Run(error=QueueFullError("busy"))
    with pytest.raises(QueueFullError):
        await followed(run, replace(job(spec()), trace=ABOVE), Recorder(provider, "1"))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.description) == ("queue", "busy")


@pytest.mark.parametrize("trace", ["", SILENT, "nonsense"])
async def test_a_job_without_a_trace_that_anybody_sees_leaves_no_spans(trace: str) -> None:
    assert await follow(Run(Started(), *STEPS), trace) == []


async def test_whoever_listens_hears_it_still() -> None:
    heard: list[tuple[int, int]] = []
    events: list[Event] = []
    hooks = Hooks(lambda done, total: heard.append((done, total)), events.append)
    provider = make_provider(1.0, "1")
    followed_job = replace(job(spec(), hooks=hooks), trace=ABOVE)
    await followed(Run(Started(), *STEPS), followed_job, Recorder(provider, "1"))
    hooks.report(3, 3)
    assert events == [Started(), *STEPS, Progress(3, 3)]
    assert len(heard) == 5
