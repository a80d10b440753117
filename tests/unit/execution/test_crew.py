"""The workers of one model: hired once, missed once, let go when their jobs are done."""

import asyncio
from collections.abc import Callable

import pytest

from calotype.backends.base import Batching
from calotype.errors import MissingWeightsError
from calotype.execution.crew import Crew
from calotype.execution.worker import Traits, Worker
from workers import SPEC, TRAITS, ScriptedWorker, counted, job


class Office:
    """Hires when let, and notes what it is told."""

    def __init__(self) -> None:
        self.let, self.asked, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.let.set()
        self.error: Exception | None = None
        self.traits = TRAITS
        self.hires = 0
        self.workers: list[ScriptedWorker] = []
        self.changes = 0
        self.failures: list[Exception] = []
        self.told = asyncio.Event()

    def crew(self, size: int = 1) -> Crew:
        return Crew(SPEC, self.hire, self, size)

    async def hire(self, crew: Crew) -> Worker:
        assert crew.model is SPEC
        self.hires += 1
        self.asked.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if self.error is not None:
            raise self.error
        worker = ScriptedWorker(asyncio.Queue(), self.traits)
        self.workers.append(worker)
        return worker

    def changed(self, crew: Crew) -> None:
        del crew
        self.changes += 1
        self.told.set()

    def failed(self, crew: Crew, error: Exception) -> None:
        del crew
        self.failures.append(error)
        self.told.set()

    async def after(self, act: Callable[[], object]) -> None:
        """Do something and wait until the office is told of it."""
        self.told.clear()
        act()
        async with asyncio.timeout(10):
            await self.told.wait()


async def quiet() -> None:
    """Let everything happen that is about to."""
    for _ in range(5):
        await asyncio.sleep(0)


def losses() -> float:
    return counted("calotype_worker_losses_total")


async def test_who_is_wanted_twice_is_hired_once() -> None:
    office = Office()
    crew = office.crew(size=3)
    assert not crew.has_free
    crew.want()
    crew.want()
    await crew.ready
    await quiet()
    assert (office.hires, office.changes) == (1, 1)
    assert crew.workers == tuple(office.workers)
    assert crew.traits == TRAITS
    assert crew.has_free
    assert crew.resident_bytes == 1


async def test_no_more_are_hired_than_there_may_be() -> None:
    office = Office()
    crew = office.crew(size=2)
    for _ in range(2):
        await office.after(crew.want)
    crew.want()
    await quiet()
    assert office.hires == len(crew.workers) == 2


async def test_a_failure_is_told_to_all_who_wait() -> None:
    office = Office()
    office.error = MissingWeightsError("no file")
    crew = office.crew()
    crew.want()
    with pytest.raises(MissingWeightsError, match="no file"):
        await crew.ready
    assert office.failures == [office.error]
    assert office.changes == 0
    assert not crew.workers


async def test_after_a_failure_a_worker_can_be_hired() -> None:
    office = Office()
    office.error = MissingWeightsError("no file")
    crew = office.crew()
    await office.after(crew.want)
    office.error = None
    await office.after(crew.want)
    assert crew.has_free
    assert isinstance(crew.ready.exception(), MissingWeightsError)


async def test_a_crew_without_room_for_more_goes_on_with_those_it_has() -> None:
    office = Office()
    crew = office.crew(size=3)
    await office.after(crew.want)
    office.error = MissingWeightsError("no room")
    crew.want()
    await quiet()
    crew.want()
    await quiet()
    assert office.hires == 2
    assert office.failures == []
    assert len(crew.workers) == 1
    office.error = None
    crew.lose(office.workers[0])
    await office.after(crew.want)
    assert crew.workers == (office.workers[1],)


async def test_a_lost_worker_is_missed_once() -> None:
    office = Office()
    crew = office.crew()
    await office.after(crew.want)
    (worker,) = office.workers
    before = losses()
    crew.lose(worker)
    crew.lose(worker)
    worker.end()
    await quiet()
    assert not crew.workers
    assert not crew.has_free
    assert office.changes == 2
    assert losses() == before + 1


async def test_a_worker_that_ends_while_idle_is_lost() -> None:
    office = Office()
    crew = office.crew()
    await office.after(crew.want)
    await office.after(office.workers[0].end)
    assert not crew.workers
    assert not crew.has_free


async def test_a_lost_worker_does_not_come_back() -> None:
    office = Office()
    crew = office.crew()
    await office.after(crew.want)
    worker = crew.take()
    crew.lose(worker)
    crew.give_back(worker)
    assert not crew.has_free


async def test_the_worker_that_ran_last_runs_next() -> None:
    office = Office()
    crew = office.crew(size=2)
    for _ in range(2):
        await office.after(crew.want)
    first, second = crew.take(), crew.take()
    assert not crew.has_free
    crew.give_back(second)
    crew.give_back(first)
    assert crew.take() is first


async def test_closing_waits_for_the_jobs() -> None:
    office = Office()
    crew = office.crew()
    await office.after(crew.want)
    crew.enter()
    crew.enter()
    closing = asyncio.create_task(crew.close())
    crew.leave()
    await quiet()
    assert crew.jobs == 1
    assert not closing.done()
    assert not office.workers[0].closed
    crew.leave()
    await closing
    assert office.workers[0].closed


async def test_a_crew_is_gone_once_nobody_works_or_waits() -> None:
    office = Office()
    crew = office.crew()
    assert crew.is_gone
    crew.want()
    assert not crew.is_gone
    await crew.ready
    crew.enter()
    await office.after(office.workers[0].end)
    assert not crew.is_gone
    changes = office.changes
    crew.leave()
    assert crew.is_gone
    assert office.changes == changes + 1


async def test_who_is_dismissed_is_not_lost_and_not_replaced() -> None:
    office = Office()
    crew = office.crew()
    await office.after(crew.want)
    before = losses()
    await crew.dismiss()
    crew.want()
    await quiet()
    assert office.workers[0].closed
    assert not crew.workers
    assert not crew.has_free
    assert (office.hires, office.changes) == (1, 1)
    assert losses() == before


async def test_dismissing_stops_the_hiring() -> None:
    office = Office()
    office.let.clear()
    crew = office.crew()
    crew.want()
    await office.asked.wait()
    await crew.dismiss()
    assert office.left.is_set()
    assert crew.ready.cancelled()
    assert office.failures == []


async def test_dismissing_before_the_hiring_began_leaves_nobody_waiting() -> None:
    """``unload`` in the very turn of the loop in which a request asked for the model."""
    office = Office()
    crew = office.crew()
    crew.want()
    await crew.dismiss()
    await quiet()
    assert office.hires == 0
    assert crew.ready.cancelled()


async def test_killing_reaches_every_worker() -> None:
    office = Office()
    crew = office.crew(size=2)
    for _ in range(2):
        await office.after(crew.want)
    crew.take()
    crew.kill()
    assert all(worker.killed for worker in office.workers)


async def test_what_may_share_a_batch_is_what_the_backend_says() -> None:
    office = Office()
    office.traits = Traits(precision="none", batching=Batching(multiple_px=2))
    crew = office.crew()
    await office.after(crew.want)
    small, equal, large = job(1, side=1), job(2, side=2), job(3, side=3)
    assert crew.key(small) == crew.key(equal) != crew.key(large)
    assert crew.key(small) != crew.key(job(4, shrink=1))


async def test_without_batching_each_job_is_alone() -> None:
    office = Office()
    office.traits = Traits(precision="none", batching=None)
    crew = office.crew()
    first, second = job(1), job(1)
    assert crew.key(first) != crew.key(second)  # nothing is loaded yet
    await office.after(crew.want)
    assert crew.key(first) != crew.key(second)
