"""The pool over models on threads, as the library and the command line use it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from calotype.backends.fake import FakeBackend
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image
from calotype.domain.request import Job
from calotype.errors import MissingWeightsError, ModelLoadingError
from calotype.execution.admission import Capacity
from calotype.execution.history import History
from calotype.execution.policy import BatchLimits
from calotype.execution.pool import Pool
from calotype.execution.roster import Bounds
from calotype.execution.thread import ThreadWorker
from unit.execution.scripted import PLENTY, Clock, job, spec

NET = spec()
WAIT_S = 10


class Gate(FakeBackend):
    """Loads and runs when let."""

    def __init__(self) -> None:
        super().__init__(NET)
        self.may_load, self.may_run = threading.Event(), threading.Event()
        self.may_load.set()
        self.may_run.set()
        self.running = threading.Event()
        self.loads = 0
        self.error: Exception | None = None

    def load(self) -> FakeBackend:
        self.loads += 1
        assert self.may_load.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        return self

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        self.running.set()
        assert self.may_run.wait(WAIT_S)
        return super().run(jobs)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(gate: Gate, clock: Clock) -> AsyncIterator[Pool]:
    batch = BatchLimits(max_jobs=4, max_pixels=10**6, max_wait_s=0.0)
    pool = Pool(
        lambda model: ThreadWorker(gate.load, model.id),
        History(),
        Capacity(jobs=1, picture_bytes=PLENTY, hold_s=0.0, batch=batch),
        Bounds(budget_bytes=PLENTY),
        clock,
    )
    yield pool
    gate.may_load.set()
    gate.may_run.set()
    await pool.close()


async def test_a_model_is_loaded_on_first_use(pool: Pool, gate: Gate) -> None:
    for value in (1, 2):
        outcome = await pool.submit(job(NET, value, invert=True))
        assert (outcome.image.pixels == 255 - value).all()
    status = pool.status(NET)
    assert (status.state, status.precision) == ("loaded", "none (fake)")
    assert status.resident_bytes is None, "its memory can't be told from the server's"
    assert gate.loads == 1


async def test_a_load_goes_on_when_nobody_waits_for_it(pool: Pool, gate: Gate) -> None:
    gate.may_load.clear()
    with pytest.raises(ModelLoadingError):
        await pool.submit(job(NET, wait=False))
    gate.may_load.set()
    await pool.load(NET)
    await pool.submit(job(NET, wait=False))
    assert gate.loads == 1


async def test_a_load_that_fails_is_tried_again_after_its_rest(
    pool: Pool, gate: Gate, clock: Clock
) -> None:
    gate.error = MissingWeightsError("net.bin is missing")
    for _ in range(2):
        with pytest.raises(MissingWeightsError):
            await pool.submit(job(NET))
    gate.error = None
    clock.now_s += 10
    await pool.submit(job(NET))
    assert gate.loads == 2


async def test_a_run_that_nobody_waits_for_does_not_hold_up_the_next(
    pool: Pool, gate: Gate
) -> None:
    gate.may_run.clear()
    hooks = Hooks()
    task = asyncio.create_task(pool.submit(job(NET, hooks=hooks)))
    await asyncio.to_thread(gate.running.wait, WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hooks.cancelled
    gate.may_run.set()
    assert (await pool.submit(job(NET))).batch_size == 1


async def test_a_model_that_was_unloaded_is_loaded_anew(pool: Pool, gate: Gate) -> None:
    await pool.submit(job(NET))
    await pool.unload(NET)
    assert pool.status(NET).state == "unloaded"
    await pool.submit(job(NET))
    assert gate.loads == 2


async def test_closing_does_not_wait_for_a_run(pool: Pool, gate: Gate) -> None:
    gate.may_run.clear()
    task = asyncio.create_task(pool.submit(job(NET)))
    await asyncio.to_thread(gate.running.wait, WAIT_S)
    async with asyncio.timeout(5):
        await pool.close()
    assert task.cancelled() or task.cancelling() or await asyncio.wait((task,), timeout=5)
    assert task.done()
