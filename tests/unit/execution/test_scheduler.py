"""The queue of one device: batches, turns, leavers, deadlines, crashes."""

import asyncio
import time

import pytest

from calotype.domain.event import Event, Queued, Started
from calotype.domain.hooks import Hooks
from calotype.domain.request import Job
from calotype.errors import (
    DeadlineExceededError,
)
from calotype.execution import scheduler
from calotype.execution.policy import BatchLimits
from workers import House, counted, finished, job, value_of

ALONE = BatchLimits(max_jobs=1, max_pixels=100, max_wait_s=0.0)
SOON_S = 0.01


def saved_s() -> float:
    return counted("calotype_cancelled_compute_seconds_total")


# Batches


async def test_what_waited_together_runs_together() -> None:
    house = House()
    crew = await house.crew()
    tasks = await house.submit(crew, *(job(v) for v in range(6)))
    batches = []
    for _ in range(2):
        batch = await house.next_batch()
        batches.append(batch.numbers)
        house.clock.now_s += 3.0
        batch.answer()
    outcomes = await asyncio.gather(*tasks)
    assert batches == [[0, 1, 2, 3], [4, 5]]
    assert [value_of(o) for o in outcomes] == list(range(6))
    assert [o.batch_size for o in outcomes] == [4, 4, 4, 4, 2, 2]
    assert [o.inference_s for o in outcomes] == [3.0] * 6
    assert [o.queue_s for o in outcomes] == [0.0] * 4 + [3.0] * 2
    assert house.measured == [(4, 3.0), (2, 3.0)]


async def test_a_lone_job_waits_for_company_no_longer_than_it_may() -> None:
    house = House(limits=BatchLimits(max_jobs=4, max_pixels=100, max_wait_s=SOON_S))
    crew = await house.crew()
    await house.submit(crew, job(1))
    await house.submit(crew, job(2))
    assert len(house.scheduler) == 2
    house.clock.now_s += SOON_S
    assert (await house.next_batch()).numbers == [1, 2]
    await house.scheduler.close()


async def test_jobs_of_two_crews_of_one_model_do_not_share_a_batch() -> None:
    """A model is unloaded while jobs wait for it, and loaded anew for others."""
    house = House()
    leaving, new = await house.crew(), await house.crew()
    await house.submit(new, job(0))
    await house.submit(leaving, job(1))
    await house.submit(new, job(2))
    batches: list[list[int]] = []
    while sum(map(len, batches)) < 3:
        batch = await house.next_batch()
        batches.append(batch.numbers)
        batch.answer()
    assert batches == [[0], [1], [2]]


async def test_no_more_batches_run_than_there_are_slots() -> None:
    house = House(slots=2, limits=ALONE)
    crew = await house.crew(size=3)
    tasks = await house.submit(crew, *(job(v) for v in range(3)))
    first, second = await house.next_batch(), await house.next_batch()
    assert (house.scheduler.running, len(house.scheduler)) == (2, 1)
    assert first.worker is not second.worker
    second.answer()
    (await house.next_batch()).answer()
    first.answer()
    assert [value_of(o) for o in await asyncio.gather(*tasks)] == [0, 1, 2]
    assert house.hired == 2


# Turns


async def test_callers_take_turns_and_priorities_go_first() -> None:
    house = House(limits=ALONE, priorities={"vip": 1})
    crew = await house.crew()
    callers = ["", "a", "a", "a", "b", "vip", "b"]
    await house.submit(crew, *(job(v, caller=c) for v, c in enumerate(callers)))
    order = []
    for _ in callers:
        batch = await house.next_batch()
        order += batch.numbers
        batch.answer()
    assert order == [0, 5, 1, 4, 2, 6, 3]


async def test_callers_who_come_and_go_do_not_go_first_each_time() -> None:
    """Three who pause between their jobs overtook a fourth again and again, who waited on."""
    house = House(limits=ALONE)
    crew = await house.crew()
    await house.submit(crew, job(0, caller="x"), job(1, caller="x"))
    batch = await house.next_batch()
    order = []
    for caller in "abcabcabc":
        await house.submit(crew, job(2, caller=caller))
        batch.answer()
        batch = await house.next_batch()
        order += batch.numbers
    assert order.index(1) <= 3  # a, b and c once each
    await house.scheduler.close()


# Who leaves


async def test_a_queued_job_whose_caller_leaves_never_runs() -> None:
    house = House()
    crew = await house.crew()
    before_s = saved_s()
    (first,) = await house.submit(crew, job(1))
    batch = await house.next_batch()
    leaver, stayer = await house.submit(crew, job(2), job(3))
    leaver.cancel()
    await finished(leaver)
    assert len(house.scheduler) == 1
    assert saved_s() == pytest.approx(before_s + 10.0)
    batch.answer()
    batch = await house.next_batch()
    assert batch.numbers == [3]
    batch.answer()
    assert [value_of(o) for o in await asyncio.gather(first, stayer)] == [1, 3]


@pytest.mark.parametrize(
    ("steps", "left_s"),
    [((3, 4), 2.0), ((0, 4), 4.0), ((0, 0), 4.0)],  # by its pace, or by what was expected
)
async def test_a_running_job_whose_caller_leaves_is_told(
    steps: tuple[int, int], left_s: float
) -> None:
    house = House()
    crew = await house.crew()
    going = job(1)
    leaver, mate = await house.submit(crew, going, job(2))
    batch = await house.next_batch()
    going.hooks.report(*steps)
    house.clock.now_s += 6.0
    before_s = saved_s()
    leaver.cancel()
    await finished(leaver)
    assert going.hooks.cancelled
    assert saved_s() == pytest.approx(before_s + left_s)
    batch.answer()
    assert value_of(await mate) == 2
    assert leaver.cancelled()


async def test_leaving_with_the_answer_saves_nothing() -> None:
    house = House()
    crew = await house.crew()
    (task,) = await house.submit(crew, done := job(1))
    before_s = saved_s()
    (await house.next_batch()).answer()
    await task
    assert saved_s() == before_s
    assert not done.hooks.cancelled


async def test_a_job_that_is_still_queued_at_its_deadline_never_runs() -> None:
    house = House()
    crew = await house.crew()
    (first,) = await house.submit(crew, job(1))
    batch = await house.next_batch()
    (late,) = await house.submit(crew, job(2, deadline_s=time.monotonic() + SOON_S))
    with pytest.raises(DeadlineExceededError, match="the deadline passed"):
        await late
    assert len(house.scheduler) == 0
    batch.answer()
    await first
    assert (house.begun.qsize(), house.scheduler.running) == (0, 0)


async def test_a_running_job_is_stopped_at_its_deadline() -> None:
    house = House()
    crew = await house.crew()
    late = job(1, deadline_s=time.monotonic() + SOON_S)
    before_s = saved_s()
    first, mate = await house.submit(crew, late, job(2))
    batch = await house.next_batch()
    with pytest.raises(DeadlineExceededError):
        await first
    assert late.hooks.cancelled
    assert saved_s() == pytest.approx(before_s + 10.0)
    batch.answer()
    assert value_of(await mate) == 2


async def test_closing_leaves_nobody_waiting() -> None:
    house = House()
    crew = await house.crew()
    jobs = [job(v) for v in range(6)]
    tasks = await house.submit(crew, *jobs)
    await house.next_batch()
    await house.scheduler.close()
    await finished(*tasks)
    assert all(task.cancelled() for task in tasks)
    assert all(job.hooks.cancelled for job in jobs)
    assert (len(house.scheduler), house.scheduler.running) == (0, 0)


# What those who wait are told


def heard(value: int, caller: str = "") -> tuple[Job, list[Event]]:
    """Return a job, and where what it is told will be."""
    told: list[Event] = []
    return job(value, caller=caller, hooks=Hooks(on_event=told.append)), told


async def test_each_is_told_its_place_when_it_changes() -> None:
    house = House(limits=ALONE)
    crew = await house.crew()
    pairs = [heard(value) for value in range(4)]
    tasks = await house.submit(crew, *(job for job, _ in pairs))
    await asyncio.sleep(0)
    assert [told[-1] for _, told in pairs] == [Started(), Queued(1), Queued(2), Queued(3)]
    told = pairs[3][1]
    del told[:]
    tasks[2].cancel()
    await asyncio.wait((tasks[2],))
    assert told == [Queued(2)]
    (await house.next_batch()).answer()
    await tasks[0]
    await asyncio.sleep(0)
    assert pairs[1][1][-1] == Started()
    assert told == [Queued(2), Queued(1)]
    await house.scheduler.close()


async def test_places_go_by_whose_turn_it_is() -> None:
    house = House(limits=ALONE)
    crew = await house.crew()
    pairs = [heard(0, "a"), heard(1, "a"), heard(2, "a"), heard(3, "b")]
    await house.submit(crew, *(job for job, _ in pairs))
    await asyncio.sleep(0)
    assert [told[-1] for _, told in pairs] == [Started(), Queued(2), Queued(3), Queued(1)]
    await house.scheduler.close()


async def test_who_is_run_again_is_told_so() -> None:
    house = House(limits=ALONE)
    crew = await house.crew(size=2)
    first, told = heard(0)
    await house.submit(crew, first)
    batch = await house.next_batch()
    batch.crash()
    (await house.next_batch()).answer()
    await asyncio.sleep(0)
    assert [event for event in told if isinstance(event, Started)] == [Started()] * 2
    await house.scheduler.close()


async def test_far_behind_a_place_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "NEAR_PLACES", 2)
    house = House(limits=ALONE)
    crew = await house.crew()
    pairs = [heard(value) for value in range(5)]
    tasks = await house.submit(crew, *(job for job, _ in pairs))
    await asyncio.sleep(0)
    assert pairs[4][1][-1] == Queued(4)
    for number in (1, 2, 3):
        (await house.next_batch()).answer()
        await tasks[number - 1]
        await asyncio.sleep(0)
    assert [event for event in pairs[4][1] if event != Queued(5)] == [
        Queued(4), Queued(2), Queued(1)
    ]  # fmt: skip
    await house.scheduler.close()
