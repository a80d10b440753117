import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.server import (
    ECHO,
    LONG,
    SOON_S,
    Gate,
    Server,
    begin,
    command,
    fake,
    in_work,
    jobs,
    picture,
    problem_of,
    serving,
    state,
    until,
)
from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from calotype.cache.flight import SingleFlight

STOPPED = "the request was cancelled by an operator"


async def stop(server: Server, name: str) -> httpx.Response:
    return await command(server, f"/requests/{name}/cancel")


async def cancelled(task: asyncio.Task[httpx.Response]) -> None:
    """Check that a request was told of its cancellation."""
    response = await asyncio.wait_for(task, SOON_S)
    assert problem_of(response) == (409, "cancelled", STOPPED)
    assert "retry-after" not in response.headers


async def test_a_running_request_is_cancelled(tmp_path: Path, gate: Gate) -> None:
    endless = fake("slow", step_s=1, steps=10**9)
    async with serving(tmp_path, endless, ECHO) as server:
        running = begin(server, "mine")
        await gate.reached()
        response = await stop(server, "mine")
        assert response.status_code == 200
        assert response.json() == {"request_id": "mine", "cancelled": 1}
        await cancelled(running)
        gate.open()
        # The one device is free again, or this would wait for ever.
        other = await asyncio.wait_for(server.run("echo"), SOON_S)
        assert other.status_code == 200
        assert problem_of(await stop(server, "mine"))[:2] == (404, "unknown_request")


async def test_a_queued_request_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), ECHO) as server:
        await command(server, "/models/echo/load")
        first = begin(server, "first")
        await in_work(server, "slow")
        second = begin(server, "second", "echo")
        await in_work(server, "echo", 2)
        assert (await stop(server, "second")).json()["cancelled"] == 1
        await cancelled(second)
        assert not first.done()
        assert jobs() == 1
        await stop(server, "first")
        await cancelled(first)


@pytest.mark.parametrize("wait", ["true", "false"])
async def test_a_request_that_waits_for_its_model_is_cancelled(
    tmp_path: Path, gate: Gate, wait: str
) -> None:
    async with serving(tmp_path, fake("slow", load_s=1)) as server:
        waiting = begin(server, "mine", headers={"x-wait-for-model": wait})
        await in_work(server, "slow", wanted="loading")
        assert (await stop(server, "mine")).json()["cancelled"] == 1
        await cancelled(waiting)
        assert await state(server, "slow") == "loading"  # for whoever comes next
        assert jobs() == 0
        gate.open()
        assert (await server.run("slow")).status_code == 200


@pytest.mark.inside  # clients don't look for an early answer
async def test_a_request_whose_body_is_on_its_way_is_cancelled(server: Server) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield picture()[:50]
        await asyncio.sleep(SOON_S)

    told = {"x-request-id": "mine"}
    sending = asyncio.create_task(server.client.post("/models/echo", content=body(), headers=told))

    async def stopped() -> bool:
        return (await stop(server, "mine")).status_code == 200

    await until(stopped)
    await cancelled(sending)


async def test_all_requests_of_an_id_are_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        twins = [begin(server, "twin", seed=seed) for seed in (1, 2)]
        other = begin(server, "other", seed=3)
        await in_work(server, "slow", 3)
        assert (await stop(server, "twin")).json() == {"request_id": "twin", "cancelled": 2}
        for twin in twins:
            await cancelled(twin)
        assert not other.done()
        await stop(server, "other")
        await cancelled(other)


@pytest.mark.parametrize("leaves", ["leader", "follower"])
async def test_one_of_two_equal_requests_is_cancelled(
    tmp_path: Path, gate: Gate, leaves: str
) -> None:
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        tasks = {name: begin(server, name) for name in ("leader", "follower")}

        async def together() -> bool:
            flights = server.services.pipeline.flights
            assert isinstance(flights, SingleFlight)
            return [len(flight.crowd) for flight in flights._flights.values()] == [2]

        await until(together)
        assert (await stop(server, leaves)).json()["cancelled"] == 1
        await cancelled(tasks.pop(leaves))
        gate.open()
        (stays,) = tasks.values()
        response = await asyncio.wait_for(stays, SOON_S)
        assert response.status_code == 200
        # Of a follower, a miss would mean that the work was begun anew.
        assert response.headers["x-cache"] == ("coalesced" if leaves == "leader" else "miss")


@pytest.mark.parametrize("name", ["nobody", "%20", "%0A", "x" * 500, "caf%C3%A9"])
async def test_a_request_that_is_not_in_work(server: Server, name: str) -> None:
    await server.run(headers={"x-request-id": "nobody"})
    status, kind, message = problem_of(await stop(server, name))
    assert (status, kind) == (404, "unknown_request")
    assert message.startswith("Request ")
    assert message.endswith(" is not in work")


async def test_an_operator_cancels_the_request_of_another(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    run = {"authorization": f"Bearer {store.create('ci')}"}
    admin = {"authorization": f"Bearer {store.create('ops', scopes=['admin'])}"}
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        running = begin(server, "mine", headers=run)

        async def stopped() -> bool:
            response = await server.client.post("/requests/mine/cancel", headers=admin)
            return response.status_code == 200

        await until(stopped)
        await cancelled(running)
