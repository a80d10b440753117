"""Two whole servers with one store between them."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from api.server import (
    DRAW,
    ECHO,
    SOON_S,
    Gate,
    Server,
    begin,
    command,
    fake,
    picture,
    problem_of,
    serving,
    until,
)
from calotype.backends.fake import FakeBackend
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.errors import InvalidSettingError
from calotype.settings import Settings
from redis_server import RedisServer

SLOW = fake("slow", step_s=1)
"""Waits at the gate."""


class Runs:
    """Counts the pictures that models of this process have begun."""

    def __init__(self) -> None:
        self.number = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.number += number


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs, run = Runs(), FakeBackend.run

    def counted(self: FakeBackend, jobs: Sequence[Job]) -> list[Image]:
        runs.add(len(jobs))
        return run(self, jobs)

    monkeypatch.setattr(FakeBackend, "run", counted)
    return runs


@contextlib.asynccontextmanager
async def two(
    folder: Path, redis: RedisServer, *specs: ModelSpec, **settings: object
) -> AsyncIterator[tuple[Server, Server]]:
    shared = {"store_url": redis.url, "store_timeout_s": 10.0, **settings}
    async with (
        serving(folder / "one", *specs, **shared) as one,
        serving(folder / "two", *specs, **shared) as other,
    ):
        yield one, other


async def ready(server: Server) -> str:
    response = await server.client.get("/ready")
    assert response.status_code == 200
    return str(response.json().get("store"))


async def stored(server: Server) -> None:
    """Wait until a server's answers are where the others find them."""
    cache = server.services.pipeline.cache
    await cache.settle()  # type: ignore[attr-defined]


async def waits(server: Server) -> None:
    """Wait until a server waits for what another one computes."""
    store = server.services.store
    assert store is not None

    async def true() -> bool:
        channels = await store.ask(lambda client: client.pubsub_channels("calotype:landed:*"))
        return bool(channels)

    await until(true)


def caches(responses: Sequence[httpx.Response]) -> list[str]:
    assert [response.status_code for response in responses] == [200] * len(responses)
    return sorted(response.headers["x-cache"] for response in responses)


async def test_a_server_answers_with_what_another_computed(
    tmp_path: Path, redis_server: RedisServer, runs: Runs
) -> None:
    async with two(tmp_path, redis_server, DRAW) as (one, other):
        first = await one.run("draw")
        await stored(one)
        second = await other.run("draw")
        assert caches([first]) == ["miss"]
        assert caches([second]) == ["hit"]
        assert second.content == first.content
        for name in ("etag", "x-seed"):
            assert second.headers[name] == first.headers[name]
        # From memory, however the store is.
        redis_server.kill()
        assert caches([await other.run("draw")]) == ["hit"]
    assert runs.number == 1


async def test_identical_requests_to_two_servers_are_computed_once(
    tmp_path: Path, redis_server: RedisServer, gate: Gate, runs: Runs
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (one, other):
        leading = begin(one, "leader")
        await gate.reached()
        others = [begin(server, f"r{n}") for n in range(5) for server in (one, other)][:9]
        await waits(one)
        gate.open()
        responses = await asyncio.wait_for(asyncio.gather(leading, *others), SOON_S)
        assert caches(responses) == ["coalesced"] * 9 + ["miss"]
        assert len({response.content for response in responses}) == 1
    assert runs.number == 1


async def test_a_rush_of_identical_requests_is_computed_once(
    tmp_path: Path, redis_server: RedisServer, runs: Runs
) -> None:
    async with two(tmp_path, redis_server, ECHO) as servers:
        for seed in range(10):
            rush = [server.run("echo", picture(seed=seed)) for server in servers * 5]
            statuses = caches(await asyncio.gather(*rush))
            assert statuses.count("miss") == 1, statuses
    assert runs.number == 10


async def test_when_the_leaders_client_leaves_another_server_goes_on(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (one, other):
        leading = begin(one, "leader")
        await gate.reached()
        following = begin(other, "follower")
        await waits(other)
        await command(one, "/requests/leader/cancel")
        assert problem_of(await leading)[1] == "cancelled"
        gate.open()
        response = await asyncio.wait_for(following, SOON_S)
        assert caches([response]) == ["miss"]


async def test_when_the_leader_runs_out_of_time_another_server_goes_on(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (one, other):
        leading = begin(one, "leader", headers={"x-deadline-ms": "1000"})
        await gate.reached()
        following = begin(other, "follower")
        await waits(other)
        assert (await leading).status_code == 504
        gate.open()
        assert caches([await asyncio.wait_for(following, SOON_S)]) == ["miss"]


async def test_a_follower_waits_under_its_own_deadline(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (one, other):
        leading = begin(one, "leader")
        await gate.reached()
        hasty = await begin(other, "follower", headers={"x-deadline-ms": "200"})
        assert hasty.status_code == 504
        gate.open()
        assert caches([await leading]) == ["miss"]


async def test_an_error_is_shared(
    tmp_path: Path, redis_server: RedisServer, gate: Gate, runs: Runs
) -> None:
    broken = fake("slow", step_s=1, fail="output")
    async with two(tmp_path, redis_server, broken) as (one, other):
        leading = begin(one, "leader")
        await gate.reached()
        following = begin(other, "follower")
        await waits(other)
        gate.open()
        told = [problem_of(await asyncio.wait_for(task, SOON_S)) for task in (leading, following)]
        assert told[0] == told[1]
        assert told[0][:2] == (500, "backend")
    assert runs.number == 1


async def test_an_answer_too_large_to_share_is_computed_by_each_server(
    tmp_path: Path, redis_server: RedisServer, gate: Gate, runs: Runs
) -> None:
    async with two(tmp_path, redis_server, SLOW, store_entry_bytes=10) as (one, other):
        leading = begin(one, "leader")
        await gate.reached()
        following = begin(other, "follower")
        await waits(other)
        gate.open()
        both = await asyncio.wait_for(asyncio.gather(leading, following), SOON_S)
        assert caches(both) == ["miss", "miss"]
        assert caches([await begin(other, "again")]) == ["hit"]
    assert runs.number == 2


async def test_what_a_server_computes_anew_is_what_others_give_soon(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.cache.shared.TRUST_S", 0)
    answers = itertools.count(start=1)
    monkeypatch.setattr(FakeBackend, "_answer", lambda _, job: _plain(next(answers), job))
    async with two(tmp_path, redis_server, ECHO) as (one, other):
        first = await one.run()
        await stored(one)
        assert (await other.run()).content == first.content
        anew = await other.run(headers={"x-use-cache": "false"})
        await stored(other)
        assert anew.content != first.content
        assert (await one.run()).content == anew.content


def _plain(value: int, job: Job) -> Image:
    pixels = job.image.pixels.copy()
    pixels[:] = value
    return Image(pixels)


async def test_a_store_that_stops_and_comes_back_fails_no_request(
    tmp_path: Path, redis_server: RedisServer, runs: Runs
) -> None:
    async with two(tmp_path, redis_server, ECHO) as servers:
        statuses: list[int] = []
        enough = asyncio.Event()

        async def client(number: int) -> None:
            for n in itertools.count():
                # Pairs of clients send the same, to different servers.
                upload = picture(seed=1000 * (number // 2) + n)
                response = await servers[number % 2].run("echo", upload)
                statuses.append(response.status_code)
                if enough.is_set():
                    return

        async def more(number: int) -> None:
            wanted = len(statuses) + number

            async def true() -> bool:
                return len(statuses) >= wanted

            await until(true)

        clients = [asyncio.create_task(client(number)) for number in range(6)]
        await more(50)
        for end in (redis_server.stop, redis_server.kill):
            await asyncio.to_thread(end)
            await more(50)
            assert [await ready(server) for server in servers] == ["down", "down"]
            await asyncio.to_thread(redis_server.start)

            async def up() -> bool:
                return [await ready(server) for server in servers] == ["up", "up"]

            await until(up)
            await more(50)
        enough.set()
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        # It is of use again.
        await servers[0].run("echo", picture(seed=1))
        await stored(servers[0])
        before = runs.number
        assert caches([await servers[1].run("echo", picture(seed=1))]) == ["hit"]
        assert runs.number == before


async def test_a_store_that_hangs_holds_requests_up_for_a_moment(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        await server.run("echo", picture(seed=1))
        redis_server.hang()
        async with asyncio.timeout(SOON_S):
            assert caches([await server.run("echo", picture(seed=2))]) == ["miss"]
        assert await ready(server) == "down"
        redis_server.resume()


async def test_a_server_starts_without_the_store_and_finds_it_by_itself(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.stop()
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        assert await ready(server) == "down"
        redis_server.start()

        async def serves() -> bool:
            return (await server.run()).status_code == 200  # once it knows the tokens

        await until(serves)
        assert await ready(server) == "up"


async def test_a_server_alone_tells_of_no_store(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO) as server:
        assert "store" not in (await server.client.get("/ready")).json()


async def test_a_wrong_address_is_found_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingError, match="store_url must be"):
        async with serving(tmp_path, ECHO, store_url="localhost:6379"):
            pytest.fail("it started")


async def test_no_answer_is_kept_on_disk_beside_the_store(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = {"cache_disk_bytes": Settings().cache_disk_bytes}
    async with serving(tmp_path, ECHO, store_url=redis_server.url, **settings) as server:
        await server.run()
    assert not (tmp_path / "cache" / "answers").exists()


async def test_the_numbers_tell_of_the_store(tmp_path: Path, redis_server: RedisServer) -> None:
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        await server.run()
        assert "\ncalotype_store_up 1.0\n" in (await server.client.get("/metrics")).text
        redis_server.kill()
        await server.run("echo", picture(seed=1))
        assert "\ncalotype_store_up 0.0\n" in (await server.client.get("/metrics")).text
