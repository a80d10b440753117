"""Which models are loaded: room for them, and what becomes of those that fail or are idle."""

import asyncio

import pytest

from calotype.domain.model import ModelSpec
from calotype.errors import (
    ForbiddenError,
)
from unit.execution.scripted import MB, PLENTY, TWO, rostering, spec, turns

A, B, C = spec("a"), spec("b"), spec("c")


async def test_a_model_is_loaded_once() -> None:
    async with rostering() as s:
        crew = s.roster.crew(A)
        assert s.roster.crew(A) is crew
        await crew.ready
        await s.load(A)
        assert s.stage.part(A).loads == 1
        assert s.stage.history.measured_bytes(A) == 100 * MB


async def test_who_was_not_asked_for_longest_goes() -> None:
    async with rostering() as s:
        await s.load(A, B, A, C)
        assert s.stage.loaded() == ["a", "c"]
        assert s.stage.most_bytes <= TWO
        assert s.roster.find(B) is None


async def test_what_is_pinned_stays() -> None:
    async with rostering(pinned="a") as s:
        await s.load(A, B, C)
        assert s.stage.loaded() == ["a", "c"]


async def test_a_busy_model_goes_last_and_only_after_its_jobs() -> None:
    async with rostering() as s:
        await s.load(A, B)
        for model in (A, B):
            s.crew(model).enter()
        busy = s.crew(A)
        s.roster.crew(C)
        await turns()
        assert s.stage.loaded() == ["a", "b"], "nobody goes before its jobs are done"
        busy.leave()
        await s.crew(C).ready
        assert s.stage.loaded() == ["b", "c"]
        assert s.stage.most_bytes <= TWO
        s.crew(B).leave()


async def test_an_idle_model_goes_before_a_busy_one_that_is_older() -> None:
    async with rostering() as s:
        await s.load(A, B)
        s.crew(A).enter()
        await s.load(C)
        assert s.stage.loaded() == ["a", "c"]
        s.crew(A).leave()


async def test_what_can_not_fit_is_refused_before_anything_is_unloaded() -> None:
    large = spec("large", size_bytes=TWO + 1)
    async with rostering() as s:
        await s.load(A, B)
        with pytest.raises(ForbiddenError, match="Model large is too large: it needs 239 MiB"):
            s.roster.crew(large)
        assert s.stage.loaded() == ["a", "b"]
        assert s.stage.part(large).loads == 0
        assert s.roster.find(large) is None


async def test_what_can_not_fit_beside_the_pinned_is_refused() -> None:
    large = spec("large", size_bytes=200 * MB)
    async with rostering(pinned="a") as s:
        s.roster.check_size(large)
        await s.load(A, B)
        with pytest.raises(ForbiddenError, match="95 MiB of it pinned"):
            s.roster.crew(large)
        assert s.stage.loaded() == ["a", "b"]


async def test_a_pinned_model_does_not_count_beside_itself() -> None:
    async with rostering(150 * MB, pinned="a") as s:
        await s.load(A)
        s.roster.check_size(A)
        assert s.roster.room_bytes(s.crew(A)) == 150 * MB


async def test_what_turns_out_too_large_is_unloaded_and_remembered() -> None:
    async with rostering() as s:
        s.stage.part(A).resident_bytes = TWO + MB
        with pytest.raises(ForbiddenError):
            await s.load(A)
        assert s.stage.loaded() == []
        assert s.roster.rest.left_s(A) is None, "it has not failed: it never fits"
        with pytest.raises(ForbiddenError, match="it needs 240 MiB"):
            s.roster.crew(A)
        assert s.stage.part(A).loads == 1


async def test_idle_models_go_after_a_while_but_not_the_pinned_or_busy() -> None:
    async with rostering(PLENTY, pinned="a", idle_s=60) as s:
        await s.load(A, B, C)
        s.crew(C).enter()
        s.stage.clock.now_s += 58.9
        await s.roster.look()
        assert s.stage.loaded() == ["a", "b", "c"]
        s.stage.clock.now_s += 1.2
        await s.roster.look()
        assert s.stage.loaded() == ["a", "c"]
        s.crew(C).leave()
        await s.roster.look()
        assert s.stage.loaded() == ["a"]


async def test_without_a_limit_no_model_is_idle() -> None:
    async with rostering() as s:
        await s.load(A)
        s.stage.clock.now_s += 10**6
        await s.roster.look()
        assert s.stage.loaded() == ["a"]


async def test_models_that_grow_beyond_the_budget_make_the_oldest_go() -> None:
    async with rostering() as s:
        await s.load(A, B)
        worker = s.stage.alive[1]
        worker.grow(60 * MB)
        await s.roster.look()
        assert s.stage.loaded() == ["b"]


async def test_replicas_are_hired_while_there_is_room_and_never_at_the_cost_of_others() -> None:
    async with rostering(3 * TWO // 2, replicas=4) as s:
        await s.load(A, B)
        for _ in range(5):
            s.crew(A).want()
            await turns()
        assert sorted(s.stage.loaded()) == ["a", "a", "b"]


async def test_models_that_are_asked_for_at_once_are_not_loaded_beyond_the_budget() -> None:
    async with rostering(150 * MB) as s:
        for model in (A, B):
            s.stage.part(model).may_load.clear()
        first, second = s.roster.crew(A).ready, s.roster.crew(B).ready
        await turns()
        for model in (A, B):
            s.stage.part(model).may_load.set()
        async with asyncio.timeout(5):
            await asyncio.wait((first, second))
        assert s.stage.most_bytes <= 150 * MB


async def test_a_model_that_was_loaded_is_used_before_the_next_takes_its_room() -> None:
    """Otherwise two models that are waited for make each other go for ever."""
    async with rostering(150 * MB) as s:

        async def use(model: ModelSpec) -> None:
            while True:
                crew = s.roster.crew(model)
                await asyncio.wait((crew.ready,))
                if s.roster.find(model) is crew:
                    break
            crew.enter()
            await turns()
            crew.leave()

        async with asyncio.timeout(2):
            await asyncio.gather(use(A), use(B))
        assert s.stage.part(A).loads == s.stage.part(B).loads == 1
