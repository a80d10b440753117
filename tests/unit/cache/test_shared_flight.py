"""Identical work on several servers, which are flights over one store here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from api.server import until
from calotype.cache.flight import SingleFlight
from calotype.cache.memory import Entry, MemoryCache
from calotype.cache.shared import SharedCache
from calotype.cache.shared_flight import Made, SharedFlights
from calotype.cache.tiered import TieredCache
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image
from calotype.domain.request import Outcome
from calotype.errors import (
    BadImageError,
    CalotypeError,
    DeadlineExceededError,
    ModelCrashedError,
    QueueFullError,
)
from calotype.store.client import Store
from redis_server import RedisServer

ENTRY = Entry(body=b"picture", format="png", etag="e1", seed=7)
SOON_S = 20.0
KEY = "k True"

Waiter = asyncio.Task[tuple[Made, bool]]


class Server:
    """What one server has of all this; its computations end when the test says so."""

    def __init__(self, url: str, lease_s: float, max_entry_bytes: int, timeout_s: float) -> None:
        self.store = Store(url, timeout_s=timeout_s, rest_s=0.02)
        shared = SharedCache(self.store, keep_s=60, max_entry_bytes=max_entry_bytes)
        self.cache = TieredCache(MemoryCache(1_000_000), shared)
        self.flights = SharedFlights(SingleFlight(), self.store, self.cache, lease_s=lease_s)
        self.begun: list[asyncio.Future[Entry]] = []

    def call(self, key: str = KEY) -> Waiter:
        async def compute(hooks: Hooks) -> Made:
            self.begun.append(asyncio.get_running_loop().create_future())
            entry = await self.begun[-1]
            await self.cache.put("k", entry)
            return entry, Outcome(image=_IMAGE)

        return asyncio.create_task(self.flights.run(key, compute, Hooks()))

    async def begins(self, number: int = 1) -> None:
        """Wait until so many computations have begun here."""

        async def true() -> bool:
            return len(self.begun) == number

        await until(true)

    async def close(self) -> None:
        await self.flights.settle()
        await self.cache.settle()
        await self.store.close()


_IMAGE = Image(np.zeros((1, 1, 3), np.uint8))


@contextlib.asynccontextmanager
async def servers(
    redis: RedisServer,
    number: int = 2,
    lease_s: float = 30.0,
    max_entry_bytes: int = 1_000_000,
    timeout_s: float = 10.0,
) -> AsyncIterator[list[Server]]:
    made = [Server(redis.url, lease_s, max_entry_bytes, timeout_s) for _ in range(number)]
    yield made
    for server in made:
        await server.close()


async def listens(server: Server, number: int = 1) -> None:
    """Wait until so many wait for what another server computes."""

    async def true() -> bool:
        channels = await server.store.ask(lambda client: client.pubsub_numsub(_channel(server)))
        return bool(channels[0][1] == number)

    await until(true)


def _channel(server: Server) -> str:
    return server.store.key("landed", KEY)


async def test_equal_work_on_several_servers_is_done_once(redis_server: RedisServer) -> None:
    async with servers(redis_server, 3) as (one, two, three):
        leader = one.call()
        await one.begins()
        others = [server.call() for server in (one, two, two, three)]
        await listens(one, 2)
        one.begun[0].set_result(ENTRY)
        (entry, outcome), shared = await leader
        assert (entry, shared) == (ENTRY, False)
        assert outcome is not None
        for other in others:
            (entry, _), shared = await asyncio.wait_for(other, SOON_S)
            assert (entry, shared) == (ENTRY, True)
        assert not two.begun
        assert not three.begun
        assert await two.cache.get("k") == ENTRY


async def test_different_work_is_done_side_by_side(redis_server: RedisServer) -> None:
    async with servers(redis_server) as (one, two):
        calls = one.call("k True"), two.call("k False")
        await one.begins()
        await two.begins()
        one.begun[0].set_result(ENTRY)
        two.begun[0].set_result(ENTRY)
        assert [shared for _, shared in await asyncio.gather(*calls)] == [False, False]


async def test_an_answer_that_came_meanwhile_is_not_made_again(redis_server: RedisServer) -> None:
    async with servers(redis_server) as (one, two):
        await one.cache.put("k", ENTRY)
        await one.cache.settle()
        assert await two.call() == ((ENTRY, None), True)
        again = await asyncio.wait_for(one.call(), SOON_S)
        assert again == ((ENTRY, None), True)
        assert not one.begun + two.begun


@pytest.mark.parametrize(
    "error", [BadImageError("no picture").at("upscale"), ModelCrashedError("it crashed: 'ä'")]
)
async def test_an_error_of_the_work_is_everybodys(
    redis_server: RedisServer, error: CalotypeError
) -> None:
    async with servers(redis_server) as (one, two):
        leader = one.call()
        await one.begins()
        follower = two.call()
        await listens(one)
        one.begun[0].set_exception(error)
        for task in (leader, follower):
            with pytest.raises(type(error)) as caught:
                await asyncio.wait_for(task, SOON_S)
            assert str(caught.value) == str(error)
            assert caught.value.stage == error.stage
        assert not two.begun
        # Whoever comes later tries anew.
        await one.flights.settle()
        later = two.call()
        await two.begins()
        two.begun[0].set_result(ENTRY)
        assert (await later)[1] is False


@pytest.mark.parametrize(
    "error",
    [DeadlineExceededError("late"), QueueFullError("full"), RuntimeError("a mistake of ours")],
)
async def test_an_error_of_the_leaders_own_makes_another_server_lead(
    redis_server: RedisServer, error: Exception
) -> None:
    async with servers(redis_server) as (one, two):
        leader = one.call()
        await one.begins()
        follower = two.call()
        await listens(one)
        one.begun[0].set_exception(error)
        with pytest.raises(type(error)):
            await leader
        await two.begins()
        two.begun[0].set_result(ENTRY)
        assert (await follower)[0][0] == ENTRY


async def test_when_the_leader_is_cancelled_another_server_leads(
    redis_server: RedisServer,
) -> None:
    async with servers(redis_server, 3) as (one, two, three):
        leader = one.call()
        await one.begins()
        followers = [two.call(), three.call()]
        await listens(one, 2)
        leader.cancel()

        async def taken_over() -> bool:
            return len(two.begun + three.begun) == 1

        await until(taken_over)
        await listens(one)
        (two.begun + three.begun)[0].set_result(ENTRY)
        results = await asyncio.wait_for(asyncio.gather(*followers), SOON_S)
        assert sorted(shared for _, shared in results) == [False, True]


async def test_when_the_leader_vanishes_another_server_leads(redis_server: RedisServer) -> None:
    async with servers(redis_server, lease_s=0.3) as (one, two):
        name = one.store.key("flight", KEY)
        await one.store.ask(lambda client: client.set(name, "dead", px=300))
        follower = two.call()
        await two.begins()
        two.begun[0].set_result(ENTRY)
        assert (await follower)[1] is False


async def test_a_leader_that_takes_long_keeps_its_lease(redis_server: RedisServer) -> None:
    async with servers(redis_server, lease_s=0.2) as (one, two):
        leader = one.call()
        await one.begins()
        follower = two.call()
        await listens(one)
        done, _ = await asyncio.wait((follower,), timeout=0.8)  # four leases
        assert not done
        assert not two.begun
        one.begun[0].set_result(ENTRY)
        await leader
        assert (await asyncio.wait_for(follower, SOON_S))[1] is True


async def test_a_follower_leaves_without_disturbing_anybody(redis_server: RedisServer) -> None:
    async with servers(redis_server) as (one, two):
        leader = one.call()
        await one.begins()
        impatient, patient = two.call(), two.call()
        await listens(one)
        impatient.cancel()
        await asyncio.wait((impatient,))
        one.begun[0].set_result(ENTRY)
        await leader
        assert (await asyncio.wait_for(patient, SOON_S))[1] is True
        last = two.call("other True")
        await two.begins()
        last.cancel()
        await asyncio.wait((last,))


async def test_an_answer_too_large_to_share_is_made_by_each_server(
    redis_server: RedisServer,
) -> None:
    large = replace(ENTRY, body=b"x" * 100)
    async with servers(redis_server, max_entry_bytes=99) as (one, two):
        leader = one.call()
        await one.begins()
        follower = two.call()
        await listens(one)
        one.begun[0].set_result(large)
        await leader
        await two.begins()
        two.begun[0].set_result(large)
        assert await follower == ((large, Outcome(image=_IMAGE)), False)


@pytest.mark.parametrize("how", ["kill", "hang"])
async def test_when_the_store_goes_everybody_computes_alone(
    redis_server: RedisServer, how: str
) -> None:
    async with servers(redis_server, timeout_s=1.0) as (one, two):
        leader = one.call()
        await one.begins()
        follower = two.call()
        await listens(one)
        getattr(redis_server, how)()
        await two.begins()
        two.begun[0].set_result(ENTRY)
        one.begun[0].set_result(ENTRY)
        for task in (leader, follower):
            assert (await asyncio.wait_for(task, SOON_S))[1] is False


async def test_a_lease_outlives_a_restart_that_forgets_it(redis_server: RedisServer) -> None:
    async with servers(redis_server, lease_s=0.3) as (one, two):
        leader = one.call()
        await one.begins()
        name = one.store.key("flight", KEY)
        await one.store.ask(lambda client: client.delete(name))

        async def taken_again() -> bool:
            return bool(await one.store.ask(lambda client: client.exists(name)))

        await until(taken_again)
        follower = two.call()
        await listens(one)
        one.begun[0].set_result(ENTRY)
        await leader
        assert (await asyncio.wait_for(follower, SOON_S))[1] is True


async def test_nothing_is_left_in_the_store_but_the_answer(redis_server: RedisServer) -> None:
    async with servers(redis_server) as (one, _):
        leader = one.call()
        await one.begins()
        one.begun[0].set_result(ENTRY)
        await leader
        await one.flights.settle()
        found: Any = await one.store.ask(lambda client: client.keys())
        names = [name.decode() for name in found]
        assert {name.split(":")[1] for name in names} == {"answer", "verdict"}
        verdict = next(name for name in names if "verdict" in name)
        assert 0 < await one.store.ask(lambda client: client.pttl(verdict)) <= 10_000
