"""The queue of one model: batches, leavers, crashes."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Hooks, Job, JobCancelledError, Outcome
from calotype.errors import ModelCrashedError
from calotype.execution.policy import BatchLimits
from calotype.execution.scheduler import Scheduler
from calotype.execution.worker import Answer, run_isolated

SPEC = ModelSpec(id="m", backend="fake", revision="1")
LIMITS = BatchLimits(max_jobs=4, max_pixels=100, max_wait_s=0.0)


def job(value: int, hooks: Hooks | None = None) -> Job:
    image = Image(np.full((1, 1, 3), value, np.uint8))
    return Job(model=SPEC, image=image, params={}, hooks=hooks or Hooks())


class StepWorker:
    """Answers each batch when the test says so."""

    precision = "none (test)"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.running = asyncio.Event()
        self.error: Exception | None = None

    async def load(self) -> None:
        return

    def batch_key(self, job: Job) -> object:
        return job.image.pixels.shape

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        self.batches.append([int(j.image.pixels[0, 0, 0]) for j in jobs])
        self.running.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return [JobCancelledError() if j.hooks.cancelled else j.image for j in jobs]

    def close(self) -> None:
        return


def scheduler(worker: StepWorker) -> tuple[Scheduler, list[float]]:
    seen: list[float] = []
    return Scheduler(worker, asyncio.Semaphore(1), LIMITS, seen.append), seen


def value_of(outcome: Outcome) -> int:
    return int(outcome.image.pixels[0, 0, 0])


async def test_what_waited_together_runs_together() -> None:
    worker = StepWorker()
    queue, seen = scheduler(worker)
    tasks = [asyncio.create_task(queue.submit(job(v))) for v in range(6)]
    await asyncio.sleep(0)
    worker.go.set()
    outcomes = await asyncio.gather(*tasks)
    assert [value_of(o) for o in outcomes] == list(range(6))
    assert worker.batches == [[0, 1, 2, 3], [4, 5]]
    assert [o.batch_size for o in outcomes] == [4, 4, 4, 4, 2, 2]
    assert len(seen) == 2


async def test_a_queued_job_whose_caller_leaves_never_runs() -> None:
    worker = StepWorker()
    queue, _ = scheduler(worker)
    first = asyncio.create_task(queue.submit(job(1)))
    await worker.running.wait()
    leaver = asyncio.create_task(queue.submit(job(2)))
    stayer = asyncio.create_task(queue.submit(job(3)))
    await asyncio.sleep(0)
    assert len(queue) == 2
    leaver.cancel()
    await asyncio.sleep(0)
    assert len(queue) == 1
    worker.go.set()
    assert value_of(await first) == 1
    assert value_of(await stayer) == 3
    assert worker.batches == [[1], [3]]


async def test_a_running_job_whose_caller_leaves_is_told_to_stop() -> None:
    worker = StepWorker()
    queue, _ = scheduler(worker)
    hooks = Hooks()
    leaver = asyncio.create_task(queue.submit(job(1, hooks)))
    mate = asyncio.create_task(queue.submit(job(2)))
    await worker.running.wait()
    leaver.cancel()
    await asyncio.sleep(0)
    assert hooks.cancelled
    worker.go.set()
    assert value_of(await mate) == 2
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert value_of(await queue.submit(job(3))) == 3


async def test_a_worker_that_breaks_fails_its_batch_and_not_the_next() -> None:
    worker = StepWorker()
    worker.error = RuntimeError("gone")
    worker.go.set()
    queue, _ = scheduler(worker)
    with pytest.raises(ModelCrashedError, match="gone"):
        await queue.submit(job(1))
    worker.error = None
    assert value_of(await queue.submit(job(2))) == 2


async def test_closing_leaves_nobody_waiting() -> None:
    worker = StepWorker()
    queue, _ = scheduler(worker)
    hooks = Hooks()
    tasks = [asyncio.create_task(queue.submit(job(v, hooks))) for v in range(5)]
    await worker.running.wait()
    queue.close()
    done, _ = await asyncio.wait(tasks, timeout=5)
    assert len(done) == 5
    assert all(task.cancelled() for task in done)
    assert hooks.cancelled


class FailsOnSeven:
    precision = "none (test)"

    def __init__(self) -> None:
        self.calls = 0

    def batch_key(self, job: Job) -> object:
        return None

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        self.calls += 1
        values = [int(j.image.pixels[0, 0, 0]) for j in jobs]
        if 7 in values:
            raise RuntimeError("seven")
        return [j.image for j in jobs]


def test_one_bad_job_of_eight_fails_alone() -> None:
    backend = FailsOnSeven()
    answers = run_isolated(backend, [job(v) for v in range(8)])
    assert [isinstance(a, ModelCrashedError) for a in answers] == [v == 7 for v in range(8)]
    assert backend.calls <= 15


def test_a_batch_of_too_few_answers_is_no_answer() -> None:
    class Forgetful(FailsOnSeven):
        def run(self, jobs: Sequence[Job]) -> list[Image]:
            return super().run(jobs)[1:]

    (answer,) = run_isolated(Forgetful(), [job(1)])
    assert isinstance(answer, Exception)
    assert "1 jobs in, 0 images out" in str(answer)
