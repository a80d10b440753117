"""Several models and large pictures in little memory; workers that are lost over a job."""

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest

from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.errors import ForbiddenError, ModelCrashedError, PayloadTooLargeError
from calotype.execution.worker import WorkerLostError
from unit.execution.scripted import MB, TWO, Stage, job, spec, turns

A, B, C = spec("a"), spec("b"), spec("c")
ONE = 150 * MB
"""Room for one model."""
LOST = WorkerLostError("killed")


def needing(resident_bytes: int, work_bytes: int, scale: int = 1) -> Callable[[Sequence[Job]], int]:
    """Return what tells the most memory that a run held, for a model of that scale."""

    def peak(jobs: Sequence[Job]) -> int:
        pixels = sum(job.image.size.pixels for job in jobs)
        pictures = pixels * (3 + 6 * scale * scale)
        return resident_bytes + (work_bytes >> 2 * jobs[0].shrink) + pictures

    return peak


def stage_with(model: ModelSpec, work_bytes: int) -> Stage:
    """Make a stage on which a run of a model needs memory beside its picture."""
    stage = Stage()
    part = stage.part(model)
    part.peak = needing(part.resident_bytes, work_bytes, model.scale or 1)
    return stage


async def test_two_models_that_only_fit_one_at_a_time_answer_everybody() -> None:
    stage = Stage()
    async with stage.pool(budget_bytes=ONE) as pool, asyncio.timeout(5):
        models = [A, B] * 30
        outcomes = await asyncio.gather(*(pool.submit(job(m, n)) for n, m in enumerate(models)))
        assert [outcome.image.pixels[0, 0, 0] for outcome in outcomes] == list(range(60))
        assert stage.most_bytes <= ONE
        for number in range(20):
            await pool.submit(job(models[number]))
            others = [asyncio.create_task(pool.submit(job(m))) for m in (A, B, B)]
            await turns(number)
            await asyncio.gather(*others)
        assert stage.most_bytes <= ONE


@pytest.mark.parametrize("slots", [1, 2])
async def test_many_models_in_room_for_two_answer_everybody(slots: int) -> None:
    stage = Stage()
    models = [spec(f"m{number}") for number in range(5)]
    async with stage.pool(budget_bytes=TWO, slots=slots) as pool, asyncio.timeout(5):
        order = [models[number * number % 5] for number in range(50)]
        outcomes = await asyncio.gather(*(pool.submit(job(model)) for model in order))
        assert len(outcomes) == 50
        assert stage.most_bytes <= TWO


async def test_a_model_that_leaves_and_loses_its_worker_over_a_job_blocks_nobody() -> None:
    """Its job waited for the room that the next model held, and that one for the job."""
    stage = Stage()
    part = stage.part(A)
    part.run_errors = [LOST]
    part.may_run.clear()
    async with stage.pool(budget_bytes=ONE) as pool:
        first = asyncio.create_task(pool.submit(job(A)))
        await part.running.wait()
        second = asyncio.create_task(pool.submit(job(B)))
        await turns()
        part.may_run.set()
        async with asyncio.timeout(5):
            await asyncio.gather(first, second)


async def test_what_never_fits_is_refused_and_the_others_stay_loaded() -> None:
    stage = Stage()
    large = spec("large", size_bytes=300 * MB)
    async with stage.pool(budget_bytes=TWO) as pool:
        await pool.submit(job(A))
        await pool.submit(job(B))
        with pytest.raises(ForbiddenError, match="Model large is too large"):
            await pool.submit(job(large))
        with pytest.raises(ForbiddenError):
            await pool.load(large)
        assert stage.loaded() == ["a", "b"]
        status = pool.status(large)
        assert status.state == "too_large"
        assert "it needs 287 MiB" in status.reason
        assert status.retry_after_s is None


async def test_what_turns_out_too_large_is_refused_from_then_on_without_a_load() -> None:
    stage = Stage()
    stage.part(A).resident_bytes = 300 * MB
    async with stage.pool(budget_bytes=TWO) as pool:
        for _ in range(3):
            with pytest.raises(ForbiddenError, match="it needs 287 MiB"):
                await pool.submit(job(A))
        assert stage.part(A).loads == 1
        assert pool.status(A).state == "too_large"
        assert stage.loaded() == []


async def test_a_picture_that_needs_room_gets_a_smaller_tile() -> None:
    stage = stage_with(A, work_bytes=80 * MB)
    async with stage.pool(budget_bytes=200 * MB) as pool:
        await pool.submit(job(A))
        runs = stage.part(A).runs
        assert runs[-1][0].shrink == 0, "nothing was known yet"
        for megapixels, shrink in ((2, 0), (3, 1), (8, 1), (9, 2), (10, 2)):
            await pool.submit(job(A, size=(1000, 1000 * megapixels)))
            assert runs[-1][0].shrink == shrink, f"{megapixels} megapixels"
            assert stage.part(A).peak(runs[-1]) <= 200 * MB


@pytest.mark.parametrize(("budget", "keeps"), [(300 * MB, True), (400 * MB, False)])
async def test_a_larger_tile_is_for_where_another_network_has_room(
    budget: int, keeps: bool
) -> None:
    stage = stage_with(A, work_bytes=80 * MB)
    async with stage.pool(budget_bytes=budget) as pool:
        for _ in range(3):
            await pool.submit(job(A, size=(1000, 1000)))
        last = stage.part(A).runs[-1][0]
        assert (last.keep_tile, last.shrink) == (keeps, 0)


async def test_who_sends_too_large_a_picture_is_told_a_size_that_is_taken() -> None:
    model = spec("a", scale=2)
    stage = stage_with(model, work_bytes=80 * MB)
    async with stage.pool(budget_bytes=200 * MB) as pool:
        await pool.submit(job(model))
        with pytest.raises(PayloadTooLargeError) as caught:
            await pool.submit(job(model, size=(2000, 3000)))
        found = re.search(r"at most (\d+) pixels .* such as (\d+)x(\d+)", str(caught.value))
        assert found
        most, w, h = map(int, found.groups())
        assert 0.99 * most <= w * h <= most
        assert w / h == pytest.approx(1.5, rel=0.01)
        await pool.submit(job(model, size=(h, w)))
        await pool.submit(job(model, size=(1, most)))
        for jobs in stage.part(model).runs:
            assert stage.part(model).peak(jobs) <= 200 * MB
        assert pool.status(model).state == "loaded"


async def test_a_batch_is_no_larger_than_the_memory() -> None:
    stage = stage_with(A, work_bytes=80 * MB)
    async with stage.pool(budget_bytes=200 * MB, max_jobs=8) as pool:
        await pool.submit(job(A))
        stage.part(A).may_run.clear()
        tasks = [asyncio.create_task(pool.submit(job(A, size=(1000, 1000)))) for _ in range(9)]
        await turns()
        stage.part(A).may_run.set()
        await asyncio.gather(*tasks)
        for jobs in stage.part(A).runs:
            assert stage.part(A).peak(jobs) <= 200 * MB, f"{len(jobs)} jobs at once"
        assert max(map(len, stage.part(A).runs)) > 1


async def test_idle_models_make_room_for_a_picture() -> None:
    stage = stage_with(A, work_bytes=30 * MB)
    async with stage.pool(budget_bytes=350 * MB, pinned=frozenset([C.id])) as pool:
        for model in (A, B, C, A):
            await pool.submit(job(model))
        assert sorted(stage.loaded()) == ["a", "b", "c"]
        await pool.submit(job(A, size=(1000, 2000)))
        assert sorted(stage.loaded()) == ["a", "b", "c"]
        await pool.submit(job(A, size=(1000, 8000)))
        assert sorted(stage.loaded()) == ["a", "c"]
        assert stage.part(A).runs[-1][0].shrink == 0


async def test_models_that_are_busy_do_not_go_for_a_picture() -> None:
    stage = stage_with(A, work_bytes=30 * MB)
    stage.part(B).may_run.clear()
    async with stage.pool(budget_bytes=TWO, slots=2) as pool, asyncio.timeout(5):
        await pool.submit(job(A))
        other = asyncio.create_task(pool.submit(job(B)))
        await stage.part(B).running.wait()
        await pool.submit(job(A, size=(1000, 8000)))
        assert sorted(stage.loaded()) == ["a", "b"]
        stage.part(B).may_run.set()
        await other


async def test_a_job_that_takes_a_worker_along_is_run_once_more_by_another() -> None:
    stage = Stage()
    part = stage.part(A)
    part.run_errors = [LOST]
    async with stage.pool() as pool:
        await pool.submit(job(A))
        assert (part.loads, len(part.runs)) == (2, 2)


async def test_a_model_that_does_nothing_but_crash_rests_and_others_go_on() -> None:
    stage = Stage()
    part = stage.part(A)
    async with stage.pool() as pool:
        for number in range(3):
            part.run_errors = [LOST, LOST]
            with pytest.raises(ModelCrashedError, match="killed"):
                await pool.submit(job(A, number))
        assert len(part.runs) == 6
        with pytest.raises(ModelCrashedError, match="3 times in a row") as caught:
            await pool.submit(job(A))
        assert caught.value.retry_after_s == 10
        status = pool.status(A)
        assert (status.state, status.retry_after_s) == ("failed", 10)
        await pool.submit(job(B))
        stage.clock.now_s += 10
        await pool.submit(job(A))
        assert pool.status(A).state == "loaded"


async def test_crashes_with_successes_between_them_do_not_make_a_model_rest() -> None:
    stage = Stage()
    part = stage.part(A)
    async with stage.pool() as pool:
        for number in range(8):
            crashes = number % 3 < 2
            part.run_errors = [LOST, LOST] if crashes else []
            (answer,) = await asyncio.gather(pool.submit(job(A)), return_exceptions=True)
            assert isinstance(answer, ModelCrashedError) is crashes


async def test_a_model_whose_last_worker_was_lost_is_not_loading() -> None:
    stage = Stage()
    part = stage.part(A)
    part.run_errors = [LOST, LOST]
    async with stage.pool() as pool:
        with pytest.raises(ModelCrashedError):
            await pool.submit(job(A))
        assert stage.loaded() == []
        assert pool.status(A).state == "unloaded"


async def test_a_first_picture_that_is_enlarged_does_not_make_later_ones_seem_too_large() -> None:
    """How much it is enlarged is known once it is done, and must not count as the network's."""
    unknown = spec("a")
    stage = stage_with(unknown, work_bytes=8 * MB)
    part = stage.part(unknown)
    part.scale = 4
    part.peak = needing(part.resident_bytes, 8 * MB, 4)
    async with stage.pool(budget_bytes=210 * MB) as pool:
        for _ in range(3):
            await pool.submit(job(unknown, size=(1000, 1000)))
        assert [jobs[0].shrink for jobs in part.runs] == [0, 0, 0]


async def test_a_worker_that_grew_beyond_the_budget_is_replaced_not_its_model_refused() -> None:
    stage = stage_with(A, work_bytes=8 * MB)
    part = stage.part(A)
    async with stage.pool(budget_bytes=TWO) as pool:
        part.grow_bytes = 100 * MB
        for _ in range(3):
            await pool.submit(job(A))
        await pool._roster.look()
        assert stage.loaded() == []
        part.grow_bytes = 0
        assert pool.status(A).state == "unloaded"
        await pool.submit(job(A))
        assert stage.loaded() == ["a"]
