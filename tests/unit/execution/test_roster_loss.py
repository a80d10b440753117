"""Models that are lost, fail or leave: forgotten, loaded anew, and nothing left behind."""

import asyncio

import pytest

from calotype.errors import (
    CalotypeError,
    MissingWeightsError,
    ModelCrashedError,
    ShuttingDownError,
)
from calotype.execution.worker import WorkerLostError
from unit.execution.scripted import PLENTY, rostering, spec, turns

A, B, C = spec("a"), spec("b"), spec("c")


async def test_a_worker_that_dies_idle_is_forgotten_and_loaded_anew() -> None:
    async with rostering() as s:
        await s.load(A)
        s.stage.alive[0].die()
        await turns()
        assert s.roster.find(A) is None
        await s.load(A)
        assert s.stage.part(A).loads == 2
        assert s.failed == []


async def test_a_load_that_loses_its_worker_is_tried_once_more() -> None:
    async with rostering() as s:
        s.stage.part(A).load_errors = [WorkerLostError("killed")]
        await s.load(A)
        assert s.stage.part(A).loads == 2
        assert s.stage.loaded() == ["a"]


async def test_a_load_that_loses_two_workers_fails() -> None:
    async with rostering() as s:
        s.stage.part(A).load_errors = [WorkerLostError("killed"), WorkerLostError("again")]
        crew = s.roster.crew(A)
        with pytest.raises(ModelCrashedError, match="again"):
            await crew.ready
        ((failed, error),) = s.failed
        assert failed is crew
        assert isinstance(error, ModelCrashedError)
        with pytest.raises(ModelCrashedError):
            s.roster.crew(A)


async def test_a_load_that_fails_leaves_nothing_and_rests() -> None:
    async with rostering() as s:
        s.stage.part(A).load_errors = [MissingWeightsError("gone")]
        with pytest.raises(MissingWeightsError):
            await s.load(A)
        assert s.stage.loaded() == []
        assert s.roster.find(A) is None
        assert s.roster.rest.left_s(A) == 10
        s.stage.clock.now_s += 10
        await s.load(A)
        assert s.roster.rest.left_s(A) is None


async def test_a_replica_that_is_being_hired_when_the_last_worker_dies_is_not_leaked() -> None:
    async with rostering(PLENTY, replicas=2) as s:
        await s.load(A)
        s.stage.part(A).may_load.clear()
        s.crew(A).want()
        await turns()
        s.stage.alive[0].die()
        await turns()
        s.stage.part(A).may_load.set()
        await turns()
        await s.roster.unload(A)
        assert s.stage.loaded() == []


async def test_a_closed_roster_has_no_workers_and_takes_none() -> None:
    async with rostering() as s:
        await s.load(A)
        s.stage.part(B).may_load.clear()
        waiting = s.roster.crew(B).ready
        await turns()
        await s.roster.close()
        assert waiting.cancelled()
        assert s.stage.loaded() == []
        with pytest.raises(ShuttingDownError):
            s.roster.crew(A)


async def test_killing_ends_all_workers_also_those_of_a_model_that_leaves() -> None:
    async with rostering() as s:
        await s.load(A, B)
        s.crew(A).enter()
        leaving = asyncio.create_task(s.roster.unload(A))
        await turns()
        s.roster.kill()
        assert s.stage.loaded() == []
        leaving.cancel()


async def test_a_model_that_goes_while_idle_ones_are_looked_at_harms_nothing() -> None:
    async with rostering(idle_s=60) as s:
        await s.load(A, B)
        for model in (A, B):
            s.stage.part(model).may_close.clear()
        s.stage.clock.now_s += 100
        looking = asyncio.create_task(s.roster.look())
        await turns()
        unloading = asyncio.create_task(s.roster.unload(B))
        await turns()
        s.stage.part(A).may_close.set()
        await turns()
        s.stage.part(B).may_close.set()
        await asyncio.gather(looking, unloading)
        assert s.stage.loaded() == []


async def test_a_request_right_before_an_unload_is_not_left_waiting() -> None:
    async with rostering() as s:
        crew = s.roster.crew(A)
        await s.roster.unload(A)  # before its load has begun
        await turns()
        assert crew.ready.done()


async def test_errors_of_a_load_are_always_of_this_package() -> None:
    async with rostering() as s:
        s.stage.part(A).load_errors = [RuntimeError("/secret/path")]
        crew = s.roster.crew(A)
        await asyncio.wait((crew.ready,))
        ((_, told),) = s.failed
        assert isinstance(told, CalotypeError)
        assert isinstance(crew.ready.exception(), CalotypeError)
