import asyncio
from functools import partial
from pathlib import Path

import pytest

from api.events import heard, listen, names
from api.server import ECHO, LONG, Gate, begin, command, fake, in_work, problem_of, until
from api.shared import is_up, known, post, result, token, two
from calotype.api import chronicle, remote, shared_board
from calotype.store.client import Store
from redis_server import RedisServer

SLOW = fake("slow", **LONG)
WAITS = fake("waits", steps=2, step_s=1, previews=1)


async def follows(store: Store) -> bool:
    """Whether somebody waits for news of a request."""
    clients = await store.ask(lambda client: client.client_list())
    return any(client["cmd"] == "xread" for client in clients)


async def test_a_job_is_told_of_and_fetched_at_any_server(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, WAITS) as (a, b):
        taken = await post(a, "waits", "mine")
        assert (taken.status_code, taken.headers["location"]) == (202, "/requests/mine")
        await gate.reached()
        await known(b, "mine", "running")
        there = (await b.client.get("/requests/mine")).json()
        here = (await a.client.get("/requests/mine")).json()
        assert there == here
        assert problem_of(await result(b, "mine", wait=0))[:2] == (409, "unfinished")
        waiting = asyncio.create_task(result(b, "mine"))
        reading = listen(b, "mine")
        gate.open()
        fetched, local = await waiting, await result(a, "mine")
        assert fetched.status_code == 200
        assert fetched.content == local.content
        own = {"x-request-id"}
        assert {k: v for k, v in fetched.headers.items() if k not in own} == {
            k: v for k, v in local.headers.items() if k not in own
        }
        events = await heard(reading)
        assert names(events)[-1] == "done"
        assert events[-1].document["result"] == "/requests/mine/result"
        assert 0 < events[-1].document["expires_in_s"] <= 3600
        again = await b.client.get(
            "/requests/mine/result", headers={"if-none-match": local.headers["etag"]}
        )
        assert again.status_code == 304


async def test_events_of_a_request_come_to_who_listens_elsewhere_before_it_is_sent(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, WAITS) as (a, b):
        reading = listen(b, "mine")
        running = begin(a, "mine", "waits")
        await gate.reached()
        await known(b, "mine", "running")
        gate.open()
        assert (await running).status_code == 200
        events = await heard(reading)
        assert events[0].document["id"] == "mine"
        assert names(events)[-1] == "done"
        numbers = [event.number for event in events]
        assert numbers == sorted(set(numbers))
        # Whoever has read the end is told to stop.
        last = {"last-event-id": str(numbers[-1])}
        assert (await b.client.get("/requests/mine/events", headers=last)).status_code == 204


@pytest.mark.parametrize("is_job", [True, False])
async def test_a_request_is_cancelled_from_another_server(
    tmp_path: Path, redis_server: RedisServer, *, is_job: bool
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        running = begin(a, "mine") if not is_job else asyncio.create_task(post(a, "slow", "mine"))
        await in_work(a, "slow")
        await known(b, "mine", "running")
        gone = await b.client.delete("/requests/mine")
        assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
        assert (await running).status_code == (202 if is_job else 409)
        if is_job:
            told = problem_of(await result(b, "mine"))
            assert told == (409, "cancelled", "the request was cancelled")
        assert (await b.client.delete("/requests/mine")).status_code == 204
        for server in (a, b):
            assert (await server.client.get("/requests/mine")).status_code == 404


async def test_an_operator_cancels_at_any_server(tmp_path: Path, redis_server: RedisServer) -> None:
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        running = begin(a, "mine")
        await in_work(a, "slow")
        cancelled = await command(b, "/requests/mine/cancel")
        assert cancelled.json() == {"request_id": "mine", "cancelled": 1}
        assert (await running).status_code == 409
        assert (await command(b, "/requests/mine/cancel")).status_code == 404


async def test_the_id_of_a_job_is_taken_on_all_servers(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, SLOW, ECHO) as (a, b):
        await post(a, "slow", "mine")
        again = await post(b, "slow", "mine")
        assert problem_of(again)[:2] == (409, "conflict")
        # What was refused hides nothing.
        assert (await b.client.get("/requests/mine")).json()["state"] != "failed"
        assert (await b.client.delete("/requests/mine")).json()["state"] == "cancelled"
        assert problem_of(await post(b, "echo", "mine"))[:2] == (409, "conflict")
        assert (await b.client.delete("/requests/mine")).status_code == 204
        assert (await post(b, "echo", "mine")).status_code == 202
        assert (await result(a, "mine")).status_code == 200


async def test_a_refused_job_leaves_its_id_free_on_all_servers(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, ECHO) as (a, b):
        for server in (a, b, a):
            headers = {"prefer": "respond-async", "x-request-id": "mine"}
            refused = await server.client.post("/models/echo", content=b"{", headers=headers)
            assert refused.status_code == 400
            for each in (a, b):
                await known(each, "mine", "failed")
        assert (await post(a, "echo", "mine")).status_code == 202


async def test_the_newest_of_a_name_is_told_of_everywhere(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """A client that repeats a request reaches another server."""
    async with two(tmp_path, redis_server, ECHO, fake("bad", fail="crash")) as (a, b):
        assert (await begin(a, "mine", "bad")).status_code == 500
        assert (await begin(b, "mine", "echo")).status_code == 200
        for server in (a, b):
            await known(server, "mine", "done")


async def test_requests_are_their_owner_s_on_all_servers(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine, yours = await token(redis_server, "a"), await token(redis_server, "b")
    async with two(tmp_path, redis_server, ECHO) as (a, b):
        assert (await begin(a, "mine", "echo", headers=mine)).status_code == 200
        assert (await b.client.delete("/requests/mine", headers=yours)).status_code == 404
        assert (await b.client.get("/requests/mine", headers=yours)).status_code == 404
        assert (await b.client.delete("/requests/mine", headers=mine)).status_code == 204


async def test_a_result_survives_the_server_that_made_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path / "1", redis_server, ECHO) as (a, _):
        made = await post(a, "echo", "mine", prefer="respond-async, wait=20")
        assert made.status_code == 200
    async with two(tmp_path / "2", redis_server, ECHO) as (a, _):
        assert (await result(a, "mine")).content == made.content
        assert (await a.client.get("/requests/mine")).json()["state"] == "done"


async def test_a_picture_without_room_is_gone_everywhere(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, ECHO, result_bytes=10) as (a, b):
        made = await post(a, "echo", "mine", prefer="respond-async, wait=20")
        assert made.status_code == 200
        await known(b, "mine", "done")
        assert problem_of(await result(b, "mine"))[:2] == (410, "gone")
        assert (await b.client.get("/requests/mine")).json()["result"] is None


async def test_the_end_of_a_server_is_told_of_by_others(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        await post(a, "slow", "mine")
        await in_work(a, "slow")
        await known(b, "mine", "running")
        reading = listen(b, "mine")
        await a.services.stop()
        events = await heard(reading)
        assert names(events)[-1] == "failed"
        assert events[-1].document["error"]["error_type"] == "shutting_down"


async def test_a_server_that_vanishes_leaves_no_reader_waiting(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chronicle, "LEASE_S", 0.5)
    monkeypatch.setattr(chronicle, "RENEW_S", 0.1)
    monkeypatch.setattr(remote, "GRACE_S", 0.5)
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        await post(a, "slow", "mine")
        await in_work(a, "slow")
        await known(b, "mine", "running")
        reading = listen(b, "mine")
        store = a.services.store
        assert store is not None
        await store.close()  # nobody hears of it any more
        lost = (503, "lost", "the server that ran request mine is gone; send it again")
        assert problem_of(await result(b, "mine")) == lost
        events = await heard(reading)
        assert names(events)[-1] == "failed"
        assert events[-1].document["error"]["error_type"] == "lost"
        assert (await b.client.delete("/requests/mine")).status_code == 204
        await a.client.delete("/requests/mine")  # or its end would wait for the job


async def test_while_the_store_is_away_each_server_knows_its_own(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, WAITS) as (a, b):
        await post(a, "waits", "before")
        await gate.reached()
        await known(b, "before", "running")
        reading = listen(b, "before")
        redis_server.stop()
        for server in (a, b):
            await is_up(server, up=False)
        taken = await post(a, "waits", "during", seed=1)
        assert taken.status_code == 202
        assert taken.headers["x-hf-warning"] == shared_board.ALONE
        assert (await a.client.get("/requests/during")).json()["state"] != "failed"
        for name in ("before", "during", "never"):
            unknown = await b.client.get(f"/requests/{name}")
            assert problem_of(unknown)[:2] == (503, "store_unavailable")
            cancelled = await command(b, f"/requests/{name}/cancel")
            assert problem_of(cancelled)[:2] == (503, "store_unavailable")
        gate.open()
        assert (await result(a, "during")).status_code == 200
        # Half a removal would be worse than none.
        assert (await a.client.delete("/requests/during")).status_code == 503
        redis_server.start()
        for server in (a, b):
            await is_up(server, up=True)
        # What was missed is said now.
        assert names(await heard(reading))[-1] == "done"
        for name in ("before", "during"):
            await known(b, name, "done")
            assert (await result(b, name)).content == (await result(a, name)).content


async def test_a_store_that_lost_everything_is_told_anew(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chronicle, "RENEW_S", 0.1)
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        running = begin(a, "mine")
        await in_work(a, "slow")
        await known(b, "mine", "running")
        store = b.services.store
        assert store is not None
        await store.ask(lambda client: client.flushall())
        await known(b, "mine", "running")
        assert (await b.client.delete("/requests/mine")).json()["state"] == "cancelled"
        assert (await running).status_code == 409


async def test_what_a_full_store_dropped_leaves_no_reader_waiting(
    tmp_path: Path, redis_server: RedisServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FORGOTTEN_S", 0.3)
    async with two(tmp_path, redis_server, WAITS) as (a, b):
        await post(a, "waits", "mine")
        await gate.reached()
        await known(b, "mine", "running")
        reading = listen(b, "mine")
        store = b.services.store
        assert store is not None
        await until(partial(follows, store))
        keys = [f"calotype:request:{{:mine}}:{part}" for part in ("head", "events")]
        assert await store.ask(lambda client: client.delete(*keys)) == 2
        assert names(await heard(reading))[-1] == "failed"
        gate.open()
        assert (await result(a, "mine")).status_code == 200
        await known(b, "mine", "done")  # its server says so all the same
        assert (await result(b, "mine")).status_code == 200


async def test_the_store_hears_of_few_steps_of_many(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, fake("steps", step_s=0.02, steps=100)) as (a, b):
        assert (await begin(a, "mine", "steps")).status_code == 200
        await known(b, "mine", "done")
        store = b.services.store
        assert store is not None
        counts = await store.ask(lambda client: client.info("commandstats"))
        assert 5 < counts["cmdstat_xadd"]["calls"] < 50
