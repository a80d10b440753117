"""Loading on first use, holding, refusing, unloading, draining."""

import asyncio

import pytest

from calotype.domain.hooks import Hooks
from calotype.errors import (
    CalotypeError,
    MissingWeightsError,
    ModelCrashedError,
    ModelLoadingError,
    QueueFullError,
    ShuttingDownError,
)
from calotype.execution.worker import WorkerLostError
from unit.execution.scripted import Stage, job, spec, turns

NET, OTHER = spec("net"), spec("other")


async def test_a_model_is_loaded_once_on_first_use() -> None:
    stage = Stage()
    async with stage.pool() as pool:
        assert pool.status(NET).state == "unloaded"
        await asyncio.gather(*(pool.submit(job(NET)) for _ in range(5)))
        assert stage.part(NET).loads == 1
        status = pool.status(NET)
        assert (status.state, status.precision) == ("loaded", "none (scripted)")
        assert status.resident_bytes == 100_000_000


async def test_a_request_is_held_while_its_model_loads() -> None:
    stage = Stage()
    stage.part(NET).may_load.clear()
    async with stage.pool(hold_s=5.0) as pool:
        held = asyncio.create_task(pool.submit(job(NET, wait=False)))
        await stage.part(NET).loading.wait()
        stage.part(NET).may_load.set()
        assert (await held).image.size.pixels == 4


async def test_who_can_not_be_held_longer_is_told_how_long_the_load_will_take() -> None:
    stage = Stage()
    stage.history.loaded(NET, 8.0, 1000)
    stage.part(NET).may_load.clear()
    async with stage.pool(hold_s=0.0) as pool:
        with pytest.raises(ModelLoadingError, match="Model net is currently loading") as caught:
            await pool.submit(job(NET, wait=False))
        assert caught.value.retry_after_s == 8.0
        stage.clock.now_s += 3
        status = pool.status(NET)
        assert (status.state, status.estimated_load_s) == ("loading", 5.0)
        waiting = asyncio.create_task(pool.submit(job(NET, wait=True)))
        stage.clock.now_s += 1000
        with pytest.raises(ModelLoadingError) as caught:
            await pool.submit(job(NET, wait=False))
        assert (caught.value.retry_after_s or 0) >= 1, "who is late is not told to hurry"
        stage.part(NET).may_load.set()
        assert (await waiting).image.size.pixels == 4
        assert stage.part(NET).loads == 1


async def test_a_failed_load_is_told_to_all_who_wait() -> None:
    stage = Stage()
    stage.part(NET).load_errors = [MissingWeightsError("net.bin is missing")]
    async with stage.pool() as pool:
        answers = await asyncio.gather(
            *(pool.submit(job(NET)) for _ in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [MissingWeightsError] * 3
        status = pool.status(NET)
        assert (status.state, status.reason) == ("failed", "net.bin is missing")
        assert status.retry_after_s == 10


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), MemoryError()])
async def test_whatever_a_load_raises_callers_get_an_error_of_this_package(
    error: Exception,
) -> None:
    stage = Stage()
    stage.part(NET).load_errors = [error]
    async with stage.pool() as pool:
        with pytest.raises(ModelCrashedError):
            await pool.submit(job(NET))


async def test_a_load_that_loses_two_workers_is_a_crash_for_callers() -> None:
    stage = Stage()
    stage.part(NET).load_errors = [WorkerLostError("killed"), WorkerLostError("killed")]
    async with stage.pool() as pool:
        with pytest.raises(ModelCrashedError):
            await pool.load(NET)
        assert pool.status(NET).state == "failed"


async def test_a_model_that_fails_is_tried_less_and_less_often() -> None:
    stage = Stage()
    part = stage.part(NET)
    async with stage.pool() as pool:
        for loads, rest_s in enumerate([10, 20, 40, 80, 160, 300, 300], start=1):
            part.load_errors = [MissingWeightsError("gone")]
            with pytest.raises(MissingWeightsError, match=r"^gone$"):
                await pool.submit(job(NET))
            stage.clock.now_s += rest_s - 1
            with pytest.raises(MissingWeightsError, match="gone; it is tried again") as caught:
                await pool.submit(job(NET))
            assert caught.value.retry_after_s == pool.status(NET).retry_after_s == 1
            assert part.loads == loads, "it rests"
            stage.clock.now_s += 1
        await pool.submit(job(NET))
        assert pool.status(NET).state == "loaded"
        await pool.unload(NET)
        assert pool.status(NET).state == "unloaded", "a success forgets"
        part.load_errors = [MissingWeightsError("gone")]
        with pytest.raises(MissingWeightsError):
            await pool.submit(job(NET))
        assert pool.status(NET).retry_after_s == 10


async def test_an_operator_need_not_wait_for_a_model_that_rests() -> None:
    stage = Stage()
    stage.part(NET).load_errors = [MissingWeightsError("a"), MissingWeightsError("b")]
    async with stage.pool() as pool:
        for message in "ab":
            with pytest.raises(MissingWeightsError, match=rf"^{message}$"):
                await pool.load(NET)
        await pool.load(NET)
        assert pool.status(NET).state == "loaded"


@pytest.mark.parametrize(("run_s", "retry_s"), [(0.001, 1.0), (30.0, 60.0)])
async def test_a_full_queue_refuses_and_says_when_by_how_long_jobs_take(
    run_s: float, retry_s: float
) -> None:
    stage = Stage()
    part = stage.part(NET)
    part.run_s = run_s
    async with stage.pool(jobs=2, max_jobs=1) as pool:
        await pool.submit(job(NET))
        part.may_run.clear()
        tasks = [asyncio.create_task(pool.submit(job(NET))) for _ in range(2)]
        await turns()
        with pytest.raises(QueueFullError) as caught:
            await pool.submit(job(NET))
        assert caught.value.retry_after_s == pytest.approx(retry_s)
        with pytest.raises(QueueFullError):
            pool.check()
        part.may_run.set()
        await asyncio.gather(*tasks)
        pool.check()


async def test_pictures_that_wait_are_bounded_by_their_bytes_but_a_lone_one_is_taken() -> None:
    stage = Stage()
    stage.part(NET).may_run.clear()
    async with stage.pool(picture_bytes=1000) as pool:
        large = asyncio.create_task(pool.submit(job(NET, size=(100, 100))))
        await turns()
        with pytest.raises(QueueFullError, match="pictures of 1 requests"):
            await pool.submit(job(NET))
        stage.part(NET).may_run.set()
        await large
        await pool.submit(job(NET))


async def test_a_leaver_frees_its_place_at_once() -> None:
    stage = Stage()
    part = stage.part(NET)
    part.may_run.clear()
    hooks = Hooks()
    async with stage.pool(jobs=1) as pool:
        task = asyncio.create_task(pool.submit(job(NET, hooks=hooks)))
        await part.running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hooks.cancelled
        part.may_run.set()
        assert (await pool.submit(job(NET))).batch_size == 1


async def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    stage = Stage()
    part = stage.part(NET)
    part.may_run.clear()
    async with stage.pool() as pool:
        task = asyncio.create_task(pool.submit(job(NET)))
        await part.running.wait()
        assert not pool.draining
        pool.refuse()
        assert pool.draining
        with pytest.raises(ShuttingDownError):
            await pool.submit(job(NET))
        with pytest.raises(ShuttingDownError):
            pool.check()
        assert not await pool.settle(0.001)
        settling = asyncio.create_task(pool.settle(60))
        part.may_run.set()
        assert (await task).image.size.pixels == 4
        assert await settling


async def test_closing_leaves_nobody_waiting() -> None:
    stage = Stage()
    stage.part(NET).may_run.clear()
    stage.part(OTHER).may_load.clear()
    hooks = Hooks()
    async with stage.pool(max_jobs=1) as pool:
        running = [asyncio.create_task(pool.submit(job(NET, hooks=hooks))) for _ in range(3)]
        loading = [
            asyncio.create_task(pool.submit(job(OTHER))),
            asyncio.create_task(pool.load(OTHER)),
        ]
        await stage.part(NET).running.wait()
        await pool.close()
        assert stage.loaded() == []
        done, _ = await asyncio.wait((*running, *loading), timeout=5)
    assert len(done) == 5
    assert all(task.cancelled() for task in running)
    assert hooks.cancelled
    for task in loading:
        assert not task.cancelled(), "who was not cancelled must not look so"
        assert isinstance(task.exception(), ShuttingDownError)


async def test_unloading_lets_jobs_finish_and_the_next_request_loads_anew() -> None:
    stage = Stage()
    part = stage.part(NET)
    part.may_run.clear()
    async with stage.pool(max_jobs=1) as pool:
        old = [asyncio.create_task(pool.submit(job(NET, value))) for value in range(2)]
        await part.running.wait()
        unloading = asyncio.create_task(pool.unload(NET))
        await turns()
        assert not unloading.done()
        new = asyncio.create_task(pool.submit(job(NET)))
        await turns()
        assert part.loads == 2
        part.may_run.set()
        await asyncio.gather(*old, new, unloading)
        assert stage.loaded() == ["net"]
        await pool.unload(NET)
        await pool.unload(NET)
        await pool.unload(OTHER)
        assert stage.loaded() == []
        assert pool.status(NET).state == "unloaded"


async def test_a_request_whose_model_is_unloaded_while_it_loads_gets_a_new_load() -> None:
    stage = Stage()
    part = stage.part(NET)
    part.may_load.clear()
    async with stage.pool() as pool:
        waiting = asyncio.create_task(pool.submit(job(NET)))
        await part.loading.wait()
        await pool.unload(NET)
        part.may_load.set()
        async with asyncio.timeout(5):
            assert (await waiting).image.size.pixels == 4
        assert part.loads == 2


async def test_an_unload_right_after_a_request_does_not_leave_it_waiting() -> None:
    stage = Stage()
    async with stage.pool() as pool, asyncio.timeout(5):
        outcome, _ = await asyncio.gather(pool.submit(job(NET)), pool.unload(NET))
        assert outcome.image.size.pixels == 4


async def test_a_load_that_is_overtaken_by_an_unload_says_so() -> None:
    stage = Stage()
    part = stage.part(NET)
    part.may_load.clear()
    async with stage.pool() as pool:
        loading = asyncio.create_task(pool.load(NET))
        await part.loading.wait()
        await pool.unload(NET)
        part.may_load.set()
        await asyncio.wait((loading,), timeout=5)
        assert not loading.cancelled(), "who was not cancelled must not look so"
        assert isinstance(loading.exception(), CalotypeError | None)


async def test_models_take_turns_and_do_not_wait_for_each_others_loads() -> None:
    stage = Stage()
    stage.part(OTHER).may_load.clear()
    async with stage.pool() as pool:
        slow = asyncio.create_task(pool.submit(job(OTHER)))
        await stage.part(OTHER).loading.wait()
        await pool.submit(job(NET))
        stage.part(OTHER).may_load.set()
        await slow
