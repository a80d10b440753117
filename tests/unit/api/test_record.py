import asyncio

import pytest

from calotype.api.record import MAX_EVENTS, Record
from calotype.domain.event import Entered, Event, Loading, Preview, Progress, Queued, Started


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def kept(clock: Clock | None = None) -> Record:
    return Record("one", "a", "m", is_kept=True, clock=clock or Clock())


async def test_a_record_begins_as_received() -> None:
    record = kept()
    assert [told.name for told in record.events] == ["received"]
    assert record.document["state"] == record.state == "received"
    assert record.document["created_at"].endswith("+00:00")


async def test_each_state_is_told() -> None:
    record = kept()
    told: list[tuple[Event, str, str, object]] = [
        (Queued(3), "queued", "place", 3),
        (Loading(1.5), "loading", "estimated_time", 1.5),
        (Started(), "running", "progress", None),
        (Progress(0, 4), "running", "progress", {"step": 0, "total": 4, "seconds_left": None}),
    ]
    for event, state, key, value in told:
        record.hooks.happened(event)
        assert record.document["state"] == state
        assert record.document[key] == value
    assert record.document["place"] is None


async def test_what_is_left_goes_by_the_pace() -> None:
    clock = Clock()
    record = kept(clock)
    record.hooks.happened(Started())
    clock.now_s += 5  # compiling, say
    record.hooks.happened(Progress(0, 4))
    clock.now_s += 2
    record.hooks.happened(Progress(1, 4))
    assert record.document["progress"]["seconds_left"] == 6
    clock.now_s += 4
    record.hooks.happened(Progress(2, 4))
    assert record.document["progress"]["seconds_left"] == 6


async def test_a_run_that_begins_anew_has_a_pace_of_its_own() -> None:
    clock = Clock()
    record = kept(clock)
    record.hooks.happened(Progress(0, 4))
    clock.now_s += 1
    record.hooks.happened(Progress(3, 4))
    record.hooks.happened(Queued(1))  # its process was lost
    record.hooks.happened(Started())
    record.hooks.happened(Progress(0, 4))
    assert record.document["progress"]["seconds_left"] is None
    clock.now_s += 1
    record.hooks.happened(Progress(1, 4))
    assert record.document["progress"]["seconds_left"] == 3


async def test_events_of_one_kind_follow_each_other_once() -> None:
    record = kept()
    for step in range(100):
        record.hooks.happened(Progress(step, 100))
    assert [told.name for told in record.events] == ["received", "progress"]
    assert record.document["progress"]["step"] == 99
    assert record.events[-1].number == 101


async def test_a_slow_reader_misses_the_oldest() -> None:
    record = kept()
    for _ in range(MAX_EVENTS):
        record.hooks.happened(Queued(1))
        record.hooks.happened(Started())
    numbers = [told.number for told in record.events]
    assert len(numbers) == MAX_EVENTS
    assert numbers == list(range(numbers[0], numbers[0] + MAX_EVENTS))


async def test_a_preview_is_shown_once_and_on_request() -> None:
    record = kept()
    record.hooks.happened(Preview(b"png"))
    record.hooks.happened(Progress(1, 2))
    preview, progress = record.events[-2:]
    shown = record.document_at(preview.moment)["preview"]
    assert shown == "data:image/png;base64,cG5n"
    # Each step would send the picture again.
    assert record.document_at(progress.moment)["preview"] is None
    assert record.document["preview"] == shown
    record.end("done")
    assert record.document["preview"] is None


async def test_the_stage_is_part_of_the_state() -> None:
    record = kept()
    record.hooks.happened(Entered("style"))
    assert len(record.events) == 1
    record.hooks.happened(Started())
    assert record.document["stage"] == "style"


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
async def test_nothing_happens_after_the_end(state: str) -> None:
    record = kept()
    hooks = record.hooks
    record.end(state)  # type: ignore[arg-type]
    hooks.happened(Progress(1, 2))
    record.end("failed")
    assert [told.name for told in record.events] == [state]
    assert record.state == state


async def test_events_of_another_thread_are_taken_in_order() -> None:
    record = kept()

    def work() -> None:
        record.hooks.happened(Started())
        for step in range(50):
            record.hooks.happened(Progress(step, 50))

    await asyncio.to_thread(work)
    await asyncio.sleep(0)
    assert [told.name for told in record.events] == ["received", "started", "progress"]
    assert record.document["progress"]["step"] == 49


async def test_who_waits_for_a_change_is_woken() -> None:
    record = kept()
    waiting = [asyncio.create_task(record.change(60)) for _ in range(3)]
    await asyncio.sleep(0)
    record.hooks.happened(Started())
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await record.change(0.001)  # comes back without one


async def test_who_waits_for_the_end_is_not_woken_before() -> None:
    record = Record("one", is_kept=True)
    waiting = asyncio.create_task(record.over(60))
    await asyncio.sleep(0)
    record.hooks.happened(Started())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    record.end("done")
    await asyncio.wait_for(waiting, 5)
    await record.over(60)  # it is
    await Record("two", is_kept=True).over(0.001)


async def test_a_request_nobody_can_ask_for_tells_nothing() -> None:
    """Most requests: their senders chose no id."""
    record = Record("made-up")
    record.hooks.happened(Started())
    assert record.events == ()
    assert record.state == "running"
    record.end("done")
    assert record.is_over
