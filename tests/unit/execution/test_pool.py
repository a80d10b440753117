"""Loading on first use, holding, refusing, draining."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from calotype.backends.base import Backend
from calotype.backends.fake import FakeBackend
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Hooks, Job
from calotype.errors import (
    MissingWeightsError,
    ModelCrashedError,
    ModelLoadingError,
    QueueFullError,
    ShuttingDownError,
)
from calotype.execution.history import History
from calotype.execution.policy import BatchLimits
from calotype.execution.pool import Pool
from calotype.execution.thread import ThreadWorker

SPEC = ModelSpec(id="org/net", alias="net", backend="fake", revision="1")
LIMITS = BatchLimits(max_jobs=4, max_pixels=10**6, max_wait_s=0.0)


class Loader:
    """Loads a fake backend when let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.let.set()
        self.loads = 0
        self.error: Exception | None = None
        self.backend: Backend = FakeBackend(SPEC)

    def __call__(self) -> Backend:
        self.loads += 1
        assert self.let.wait(10)
        if self.error is not None:
            raise self.error
        return self.backend


class Gate(FakeBackend):
    """Runs when let."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.let = threading.Event()
        self.running = threading.Event()

    def run(self, jobs: object) -> list[Image]:
        self.running.set()
        assert self.let.wait(10)
        return super().run(jobs)  # type: ignore[arg-type]


def pool(loader: Loader, **changes: float) -> Pool:
    return Pool(
        lambda spec: ThreadWorker(loader, spec.id),
        History(),
        queue_size=int(changes.get("queue_size", 8)),
        hold_s=changes.get("hold_s", 5.0),
        limits=LIMITS,
    )


def job(*, wait: bool = False, hooks: Hooks | None = None) -> Job:
    image = Image(np.zeros((2, 2, 3), np.uint8))
    return Job(model=SPEC, image=image, params={}, wait_for_model=wait, hooks=hooks or Hooks())


async def test_loads_once_on_first_use() -> None:
    loader = Loader()
    runner = pool(loader)
    assert runner.status(SPEC).state == "unloaded"
    await asyncio.gather(*(runner.submit(job()) for _ in range(5)))
    assert loader.loads == 1
    status = runner.status(SPEC)
    assert (status.state, status.precision) == ("loaded", "none (fake)")
    await runner.close()


async def test_a_slow_load_is_503_with_an_estimate_and_goes_on() -> None:
    loader = Loader()
    loader.let.clear()
    runner = pool(loader, hold_s=0.0)
    with pytest.raises(ModelLoadingError, match="Model net is currently loading") as caught:
        await runner.submit(job())
    assert caught.value.retry_after_s is not None
    assert runner.status(SPEC).state == "loading"
    waiter = asyncio.create_task(runner.submit(job(wait=True)))
    await asyncio.sleep(0)
    loader.let.set()
    assert (await waiter).image.size.pixels == 4
    assert loader.loads == 1
    await runner.close()


async def test_a_failed_load_is_told_to_all_and_tried_again() -> None:
    loader = Loader()
    loader.error = MissingWeightsError("net.bin is missing")
    runner = pool(loader)
    answers = await asyncio.gather(
        *(runner.submit(job()) for _ in range(3)), return_exceptions=True
    )
    assert [type(a) for a in answers] == [MissingWeightsError] * 3
    assert runner.status(SPEC).state == "failed"
    loader.error = RuntimeError("/secret/path")
    with pytest.raises(ModelCrashedError):
        await runner.submit(job())
    loader.error = None
    assert (await runner.submit(job())).batch_size == 1
    await runner.close()


async def test_a_full_queue_refuses_and_says_when() -> None:
    loader, gate = Loader(), Gate()
    loader.backend = gate
    runner = pool(loader, queue_size=2)
    tasks = [asyncio.create_task(runner.submit(job())) for _ in range(2)]
    await asyncio.to_thread(gate.running.wait, 10)
    with pytest.raises(QueueFullError) as caught:
        await runner.submit(job())
    assert (caught.value.retry_after_s or 0) >= 1
    gate.let.set()
    await asyncio.gather(*tasks)
    assert (await runner.submit(job())).batch_size == 1
    await runner.close()


async def test_a_leaver_frees_its_place_at_once() -> None:
    loader, gate = Loader(), Gate()
    loader.backend = gate
    runner = pool(loader, queue_size=1)
    hooks = Hooks()
    task = asyncio.create_task(runner.submit(job(hooks=hooks)))
    await asyncio.to_thread(gate.running.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hooks.cancelled
    gate.let.set()
    assert (await runner.submit(job())).batch_size == 1
    await runner.close()


async def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    loader, gate = Loader(), Gate()
    loader.backend = gate
    runner = pool(loader)
    task = asyncio.create_task(runner.submit(job()))
    await asyncio.to_thread(gate.running.wait, 10)
    runner.refuse()
    with pytest.raises(ShuttingDownError):
        await runner.submit(job())
    gate.let.set()
    assert (await task).image.size.pixels == 4
    assert await runner.settle(10)
    await runner.close()


def test_load_times_survive_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "loads.json"
    history = History(file)
    guess = history.load_s(SPEC)
    assert guess > 0
    for seconds in (1.0, 9.0, 2.0):
        history.loaded(SPEC, seconds)
    assert History(file).load_s(SPEC) == 2.0


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"org/net": ["x"]}', "\x00"])
def test_damaged_load_times_are_forgotten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "loads.json"
    file.write_text(content)
    assert History(file).load_s(SPEC) == History().load_s(SPEC)
