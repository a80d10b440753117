"""What the scheduler does when a worker falls, breaks, or will never be."""

import asyncio

import pytest

from calotype.domain.model import ModelSpec
from calotype.errors import (
    BadOutputError,
    MissingWeightsError,
    ModelCrashedError,
)
from calotype.execution.worker import Traits, WorkerLostError
from workers import TRAITS, House, counted, finished, job, value_of

OTHER = ModelSpec(id="t/other", backend="fake", revision="1")


async def test_an_error_is_answered_to_its_own_job_only() -> None:
    house = House()
    crew = await house.crew()
    good = job(1)
    tasks = await house.submit(crew, good, job(2))
    (await house.next_batch()).answer(good.image, BadOutputError("nan"))
    assert value_of(await tasks[0]) == 1
    with pytest.raises(BadOutputError, match="nan"):
        await tasks[1]


async def test_a_crashing_job_runs_twice_and_its_mates_are_served() -> None:
    house = House()
    crew = await house.crew()
    retries, losses = counted("calotype_job_retries_total"), counted("calotype_worker_losses_total")
    tasks = await house.submit(crew, *(job(v) for v in range(3)))
    batch = await house.next_batch()
    assert batch.numbers == [0, 1, 2]
    workers = {batch.worker}
    batch.crash()
    runs = []
    for _ in range(3):
        batch = await house.next_batch()
        runs.append(batch.numbers)
        workers.add(batch.worker)
        batch.crash() if batch.numbers == [1] else batch.answer()
    assert sorted(runs) == [[0], [1], [2]]
    with pytest.raises(ModelCrashedError, match="the worker fell"):
        await tasks[1]
    assert [value_of(await tasks[v]) for v in (0, 2)] == [0, 2]
    assert len(workers) == house.hired == 3
    assert [str(error) for error in house.given_up] == ["the worker fell"]
    assert counted("calotype_job_retries_total") == retries + 3
    assert counted("calotype_worker_losses_total") == losses + 2


async def test_who_runs_again_goes_before_the_callers_later_jobs() -> None:
    house = House()
    crew = await house.crew()
    tasks = await house.submit(crew, job(0), job(1))
    batch = await house.next_batch()
    tasks += await house.submit(crew, job(2))
    batch.crash()
    runs = []
    for _ in tasks:
        batch = await house.next_batch()
        runs.append(batch.numbers)
        batch.answer()
    assert runs == [[0], [1], [2]]
    assert [value_of(o) for o in await asyncio.gather(*tasks)] == [0, 1, 2]


async def test_who_leaves_while_waiting_to_run_again_saves_all_of_it() -> None:
    house = House()
    crew, other = await house.crew(), await house.crew(OTHER)
    (leaver,) = await house.submit(crew, job(0))
    batch = await house.next_batch()
    (mate,) = await house.submit(other, job(1, model=OTHER))
    house.clock.now_s += 3.0
    batch.crash()
    batch = await house.next_batch()
    assert batch.numbers == [1]
    name = "calotype_cancelled_compute_seconds_total"
    before_s = counted(name)
    leaver.cancel()
    await finished(leaver)
    assert counted(name) == pytest.approx(before_s + 10.0)
    batch.answer()
    assert value_of(await mate) == 1


async def test_a_worker_that_is_about_to_end_is_not_used_again() -> None:
    """Its process may be known to be lost before it is gone."""
    house = House()
    crew = await house.crew()
    (task,) = await house.submit(crew, job(1))
    lost = await house.next_batch()
    lost.reply.set_exception(WorkerLostError("it sent nonsense"))
    batch = await house.next_batch()
    assert batch.worker is not lost.worker
    batch.answer()
    assert value_of(await task) == 1


@pytest.mark.parametrize(("shrink", "then"), [(0, 1), (1, 2), (2, 2)])
async def test_a_worker_lost_for_want_of_memory_means_a_smaller_tile(
    shrink: int, then: int
) -> None:
    house = House(traits=Traits(precision="none", batching=TRAITS.batching, shrinks=2))
    crew = await house.crew()
    (task,) = await house.submit(crew, job(1, shrink=shrink))
    (await house.next_batch()).crash(out_of_memory=True)
    batch = await house.next_batch()
    assert [job.shrink for job in batch.jobs] == [then]
    batch.answer()
    assert value_of(await task) == 1


async def test_a_job_left_while_its_worker_was_lost_is_not_run_again() -> None:
    house = House()
    crew = await house.crew()
    leaver, mate = await house.submit(crew, job(1), job(2))
    batch = await house.next_batch()
    leaver.cancel()
    batch.crash()
    batch = await house.next_batch()
    assert batch.numbers == [2]
    batch.answer()
    assert value_of(await mate) == 2
    assert (len(house.scheduler), house.begun.qsize()) == (0, 0)


@pytest.mark.parametrize("count", [0, 1])
async def test_too_few_answers_leave_nobody_waiting(count: int) -> None:
    house = House()
    crew = await house.crew()
    jobs = [job(1), job(2)]
    tasks = await house.submit(crew, *jobs)
    (await house.next_batch()).reply.set_result([job.image for job in jobs[:count]])
    await finished(*tasks)
    crashed = [isinstance(task.exception(), ModelCrashedError) for task in tasks]
    assert crashed == [place >= count for place in range(2)]


async def test_a_worker_that_breaks_fails_its_batch_and_not_the_next() -> None:
    """Such as a lack of memory on our side of it: the crew was one worker short for ever."""
    house = House()
    crew = await house.crew()
    (first,) = await house.submit(crew, job(1))
    (await house.next_batch()).reply.set_exception(RuntimeError("gone"))
    with pytest.raises(ModelCrashedError, match="gone"):
        await first
    (second,) = await house.submit(crew, job(2))
    (await house.next_batch()).answer()
    assert value_of(await second) == 2


async def test_who_waits_for_a_model_that_will_not_be_is_told() -> None:
    house = House()
    crew, other = await house.crew(), await house.crew(OTHER)
    busy, waits = await house.submit(other, job(1), job(2, side=2))
    (told,) = await house.submit(crew, job(3))
    house.scheduler.fail(crew, MissingWeightsError("no file"))
    with pytest.raises(MissingWeightsError):
        await told
    for _ in range(2):
        (await house.next_batch()).answer()
    assert [value_of(o) for o in await asyncio.gather(busy, waits)] == [1, 2]
