import asyncio
from pathlib import Path

import pytest

from api.server import Line, fake, picture, serving
from calotype.api.presence import ClientGoneError, while_present
from calotype.errors import BadImageError, ShuttingDownError


async def test_a_client_that_leaves_takes_its_running_job_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "calotype.access")
    async with serving(tmp_path, fake("slow", step_s=0.02, steps=500)) as server:
        line = Line(picture())
        task = line.post(server)
        await asyncio.sleep(0.2)
        line.left.set()
        await asyncio.wait_for(task, 1)
        assert line.sent == []
        (record,) = [r for r in caplog.records if r.name == "calotype.access"]
        assert record.__dict__["status"] == 499
        # The device is free again, or this would wait for ten seconds.
        follower = Line(picture(seed=2))
        waiting = follower.post(server)
        await asyncio.sleep(0.1)
        assert (await server.client.get("/health")).status_code == 200
        follower.left.set()
        await asyncio.wait_for(waiting, 1)


async def test_a_client_that_leaves_frees_its_place_in_the_queue(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.05, steps=6), queue_size=2) as server:
        running, queued = Line(picture(seed=1)), Line(picture(9))
        first = running.post(server)
        await asyncio.sleep(0.1)
        second = queued.post(server)
        await asyncio.sleep(0.05)
        assert (await server.run("slow", picture(10))).status_code == 429
        queued.left.set()
        await asyncio.wait_for(second, 1)
        assert queued.sent == []
        assert (await server.run("slow", picture(10))).status_code == 200
        await first
        assert running.sent[0]["status"] == 200


async def test_one_of_two_identical_requests_may_leave(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.02, steps=15)) as server:
        leader, follower = Line(picture()), Line(picture())
        tasks = [leader.post(server), follower.post(server)]
        await asyncio.sleep(0.15)
        leader.left.set()
        await asyncio.gather(*tasks)
        assert leader.sent == []
        assert follower.sent[0]["status"] == 200


async def test_a_client_that_leaves_amid_its_upload(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow")) as server:
        line = Line(picture()[:50], whole=False)
        line.left.set()
        await asyncio.wait_for(line.post(server), 1)
        assert line.sent == []


async def test_a_cached_answer_needs_no_watch(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow")) as server:
        first, second = Line(picture()), Line(picture())
        await first.post(server)
        await second.post(server)
        assert second.sent[0]["status"] == 200
        assert (first.watched, second.watched) == (True, False)


async def test_the_server_s_own_end_stops_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    line = Line()
    await line.receive()
    task = asyncio.create_task(while_present(work(), line.receive))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_work_that_fails_on_its_way_out_is_no_news() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            raise BadImageError("too late")

    line = Line()
    await line.receive()
    line.left.set()
    with pytest.raises(ClientGoneError):
        await while_present(work(), line.receive)


async def test_work_that_was_cancelled_elsewhere() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ShuttingDownError):
        await while_present(work(), Line().receive)
