"""A model in a process of its own: what crosses, what breaks, what is left behind."""

import asyncio
import base64
import contextlib
import io
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pytest

from calotype.backends.base import Batching, Machine
from calotype.domain.event import Event, Preview, Progress
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.errors import (
    BadOutputError,
    CalotypeError,
    MissingWeightsError,
    ModelCrashedError,
    OutOfMemoryError,
)
from calotype.execution.batch import MAX_PREVIEW_BYTES, PNG
from calotype.execution.process import Patience, ProcessWorker
from calotype.execution.worker import Answer, WorkerLostError

PATIENCE = Patience(stop_s=0.2, load_s=30.0)


def fake(scale: int | None = None, **options: str | float | int) -> ModelSpec:
    return ModelSpec(id="t/fake", backend="fake", revision="1", scale=scale, options=options)


def image(value: int = 0, side: int = 4, *, alpha: bool = False) -> Image:
    plane = np.full((side, side), 7, np.uint8) if alpha else None
    return Image(np.full((side, side, 3), value, np.uint8), plane)


def job(spec: ModelSpec, picture: Image, hooks: Hooks | None = None, **params: bool) -> Job:
    return Job(model=spec, image=picture, params=params, hooks=hooks or Hooks())


def pictures(answers: Sequence[Answer]) -> list[Image]:
    return [answer for answer in answers if isinstance(answer, Image)]


@contextlib.asynccontextmanager
async def working(spec: ModelSpec, patience: Patience = PATIENCE) -> AsyncIterator[ProcessWorker]:
    worker = ProcessWorker(spec, Machine(), patience)
    await worker.load()
    try:
        yield worker
    finally:
        await worker.close()


def watched() -> tuple[Hooks, asyncio.Event]:
    """Return hooks, and what is set once the job has made a step."""
    event = asyncio.Event()
    return Hooks(lambda done, _: event.set() if done else None), event


def shared_memory() -> list[Path]:
    return sorted(Path("/dev/shm").iterdir())  # noqa: S108  only looked at


def pid_of(worker: ProcessWorker) -> int:
    assert worker._process is not None
    return worker._process.pid


async def test_pictures_cross_and_come_back() -> None:
    rng = np.random.default_rng(0)
    spec = fake(scale=2)
    async with working(spec) as worker:
        assert worker.traits.precision == "none (fake)"
        assert worker.traits.batching == Batching()
        for shape in ((1, 1, 3), (7, 3, 3), (5, 8, 3)):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            one, two = pictures(
                await worker.run(
                    [job(spec, Image(pixels)), job(spec, Image(255 - pixels), invert=True)]
                )
            )
            expected = pixels.repeat(2, 0).repeat(2, 1)
            assert np.array_equal(one.pixels, expected)
            assert np.array_equal(two.pixels, expected)


async def test_an_answer_outlives_the_next_run_and_the_worker() -> None:
    spec = fake()
    async with working(spec) as worker:
        (first,) = pictures(await worker.run([job(spec, image(1, 500))]))
        (second,) = pictures(await worker.run([job(spec, image(2, 500))]))
    assert (first.pixels == 1).all()
    assert (second.pixels == 2).all()


async def test_large_pictures_cross_beside_the_event_loop() -> None:
    spec = fake()
    async with working(spec) as worker:
        (answer,) = pictures(await worker.run([job(spec, image(9, 2000))]))
    assert answer.size.pixels == 4_000_000
    assert (answer.pixels == 9).all()


async def test_progress_comes_back() -> None:
    spec = fake(steps=3, step_s=0.06)
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    async with working(spec) as worker:
        await worker.run([job(spec, image(), hooks)])
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert hooks.progress == (3, 3)


async def test_previews_come_back_each_to_its_own_job() -> None:
    spec = fake(steps=3, step_s=0.06, previews=1)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    told: tuple[list[Event], ...] = ([], [], [])
    listeners = [Hooks(on_event=events.append) for events in told]
    listeners[2].cancel()
    images = [Image(noise), image(9), image(8)]
    async with working(spec) as worker:
        await worker.run(
            [job(spec, one, hooks) for one, hooks in zip(images, listeners, strict=True)]
        )
    for events, expected in zip(told, images[:2], strict=False):
        shown = [event.body for event in events if isinstance(event, Preview)]
        assert len(shown) == 3
        for body in shown:
            assert np.array_equal(np.array(PIL.Image.open(io.BytesIO(body))), expected.pixels)
    assert not any(isinstance(event, Preview) for event in told[2])
    kinds = [type(event) for event in told[0]]
    assert kinds == [Progress] + [Preview, Progress] * 3, "in the order in which it happened"


async def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Event) -> None:
        raise RuntimeError("a listener of the future")

    spec = fake(previews=1)
    async with working(spec) as worker:
        (answer,) = await worker.run([job(spec, image(4), Hooks(on_event=fail))])
    assert isinstance(answer, Image)
    assert "a listener of the future" in caplog.text


@pytest.mark.parametrize(
    "told",
    [
        {"job": 0},
        {"job": 7, "png": base64.b64encode(PNG).decode()},
        {"job": "0", "png": base64.b64encode(PNG).decode()},
        {"job": 0, "png": 1},
        {"job": 0, "png": "no base64!"},
        {"job": 0, "png": base64.b64encode(b"<svg>").decode()},
        {"job": 0, "png": base64.b64encode(PNG + bytes(MAX_PREVIEW_BYTES)).decode()},
    ],
    ids=["nothing", "no-such-job", "odd-job", "number", "no-base64", "no-png", "large"],
)
async def test_a_preview_that_is_none_ends_the_process(
    told: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = fake(steps=1000, step_s=0.01)
    async with working(spec) as worker:
        events: list[Event] = []
        hooks = Hooks(on_event=events.append)
        running = asyncio.create_task(worker.run([job(spec, image(), hooks)]))
        while not events:  # noqa: ASYNC110  the first step
            await asyncio.sleep(0.01)
        assert worker._channel is not None
        message = {"is": "preview", "fd": False, **told}
        monkeypatch.setattr(worker._channel, "receive", lambda: [(message, None)])
        worker._receive()
        monkeypatch.undo()
        with pytest.raises(WorkerLostError, match="no message"):
            await asyncio.wait_for(running, 5)
    assert not any(isinstance(event, Preview) for event in events)


async def test_a_cancelled_run_stops_at_its_next_step_and_the_worker_goes_on() -> None:
    spec = fake(steps=1000, step_s=0.01)
    hooks, running_now = watched()
    async with working(spec, Patience(stop_s=10, load_s=30)) as worker:
        running = asyncio.create_task(worker.run([job(spec, image(), hooks)]))
        await running_now.wait()
        hooks.cancel()
        (answer,) = await asyncio.wait_for(running, 5)
        assert isinstance(answer, JobCancelledError)
        quick = job(spec, image(3), stopped := Hooks())
        stopped.cancel()
        (again,) = await worker.run([quick])
        assert isinstance(again, JobCancelledError)
        assert not worker.ended.done()


async def test_a_mate_that_leaves_does_not_stop_the_others() -> None:
    spec = fake(steps=20, step_s=0.01)
    leaver, (stayer, running_now) = Hooks(), watched()
    async with working(spec) as worker:
        running = asyncio.create_task(
            worker.run([job(spec, image(1), leaver), job(spec, image(2), stayer)])
        )
        await running_now.wait()
        leaver.cancel()
        gone, there = await running
    assert isinstance(gone, JobCancelledError)
    assert isinstance(there, Image)
    assert (there.pixels == 2).all()


@pytest.mark.parametrize(
    ("fail", "error"),
    [("crash", ModelCrashedError), ("memory", OutOfMemoryError), ("output", BadOutputError)],
)
async def test_errors_come_back_by_name(
    fail: str, error: type[CalotypeError], caplog: pytest.LogCaptureFixture
) -> None:
    spec = fake(fail=fail)
    async with working(spec) as worker:
        (answer,) = await worker.run([job(spec, image())])
        assert type(answer) is error
        assert not worker.ended.done()
    if fail == "crash":
        assert "Traceback" in caplog.text, "the log must say where it happened"


async def test_less_memory_is_tried_before_giving_up() -> None:
    spec = fake(fail="large")
    async with working(spec) as worker:
        (answer,) = await worker.run([job(spec, image(5))])
    assert isinstance(answer, Image)


async def test_a_load_that_fails_says_why(caplog: pytest.LogCaptureFixture) -> None:
    worker = ProcessWorker(fake(fail="load"), Machine(), PATIENCE)
    with pytest.raises(MissingWeightsError, match="told to fail at load"):
        await worker.load()
    await worker.close()
    assert worker.ended.done()
    assert "can't be loaded" in caplog.text


async def test_a_load_that_takes_too_long_is_ended() -> None:
    worker = ProcessWorker(fake(load_s=60), Machine(), Patience(stop_s=1, load_s=0.5))
    with pytest.raises(ModelCrashedError, match="not loaded within"):
        await worker.load()
    pid = pid_of(worker)
    await worker.close()
    assert not psutil.pid_exists(pid)


async def test_a_process_that_dies_is_noticed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    spec = fake(steps=1000, step_s=0.05)
    async with working(spec) as worker:
        hooks, running_now = watched()
        running = asyncio.create_task(worker.run([job(spec, image(), hooks)]))
        await running_now.wait()
        killed_s = time.monotonic()
        os.kill(pid_of(worker), signal.SIGKILL)
        with pytest.raises(WorkerLostError, match="killed by signal 9") as caught:
            await running
        assert caught.value.out_of_memory, "who kills so, unasked, is the system"
        assert time.monotonic() - killed_s < 5
        await asyncio.wait_for(asyncio.shield(worker.ended), 5)
        with pytest.raises(WorkerLostError):
            await worker.run([job(spec, image())])
    assert "was lost" in caplog.text


async def test_a_process_that_dies_while_a_large_picture_is_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = fake()
    async with working(spec) as worker:
        pack = worker._packed

        async def die(jobs: Sequence[Job]) -> object:
            packed = await pack(jobs)
            worker.kill()
            await asyncio.shield(worker.ended)
            return packed

        monkeypatch.setattr(worker, "_packed", die)
        with pytest.raises(WorkerLostError):
            await asyncio.wait_for(worker.run([job(spec, image(1, 1500))]), 10)


async def test_a_run_that_hangs_is_killed_once_nobody_waits() -> None:
    spec = fake(fail="hang")
    hooks = Hooks()
    async with working(spec) as worker:
        pid = pid_of(worker)
        running = asyncio.create_task(worker.run([job(spec, image(), hooks)]))
        await asyncio.sleep(0.1)
        hooks.cancel()
        with pytest.raises(WorkerLostError, match="did not stop within") as caught:
            await asyncio.wait_for(running, 10)
        assert not caught.value.out_of_memory
        await asyncio.wait_for(asyncio.shield(worker.ended), 5)
    assert not psutil.pid_exists(pid)


async def test_lines_of_the_log_come_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "calotype")
    spec = fake(fail="crash")
    async with working(spec) as worker:
        await worker.run([job(spec, image())])
    record = next(r for r in caplog.records if r.name == "calotype.execution.child")
    assert record.levelno == logging.ERROR


async def test_its_memory_is_measured() -> None:
    spec = fake(load_bytes=60_000_000, run_bytes=90_000_000)
    async with working(spec) as worker:
        loaded = worker.usage.resident_bytes
        assert loaded > 60_000_000
        await worker.run([job(spec, image())])
        assert worker.usage.peak_bytes - loaded > 80_000_000
        assert worker.usage.resident_bytes < loaded + 20_000_000


async def test_nothing_is_left_behind() -> None:
    this = psutil.Process()
    spec = fake()
    async with working(spec) as worker:  # whatever the first one leaves for good, such as threads
        await worker.run([job(spec, image(side=300))])
    del worker
    before, shared = this.num_fds(), shared_memory()
    for _ in range(3):
        async with working(spec) as worker:
            pid = pid_of(worker)
            for _ in range(20):
                await worker.run([job(spec, image(side=300, alpha=True)), job(spec, image())])
            if _ == 0:
                os.kill(pid, signal.SIGKILL)
        assert not psutil.pid_exists(pid)
    assert this.num_fds() <= before
    assert shared_memory() == shared


@pytest.mark.parametrize("answers", [[[0, 10, 10, False]], [], [["BadOutputError"]], [[-1, 1]]])
@pytest.mark.parametrize("pictures_too", [True, False])
async def test_an_answer_that_is_none_ends_the_process(
    answers: object, *, pictures_too: bool
) -> None:
    spec = fake(steps=100, step_s=0.01)
    async with working(spec) as worker:
        hooks, running_now = watched()
        running = asyncio.create_task(worker.run([job(spec, image(), hooks)]))
        await running_now.wait()
        told = {"answers": answers, "pictures": pictures_too, "kept": False, "peak_bytes": 0}
        worker._take({"is": "done", **told}, None)
        with pytest.raises(WorkerLostError, match="no answer"):
            await asyncio.wait_for(running, 5)
