"""What is lost with a server, or written by another version of one, harms nobody else."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from api.events import heard, listen, names
from api.server import LONG as ENDLESS
from api.server import SOON_S, Gate, Server, begin, fake, in_work, problem_of, serving, until
from api.shared import known, post, result, two
from calotype.api import chronicle, remote, shared_board, slot
from calotype.api.record import Answer
from calotype.api.relay import Order, Relay
from calotype.api.slot import Line, Page, Slot, Update
from calotype.assembly import assemble, create_server
from calotype.catalog.catalog import Catalog
from calotype.settings import Settings
from calotype.store.client import Client, Store
from redis_server import RedisServer

SLOW = fake("slow", **ENDLESS)
WAITS = fake("waits", steps=2, step_s=1)
QUICK = fake("quick")


def store_of(server: Server) -> Store:
    store = server.services.store
    assert store is not None
    return store


async def publish(store: Store, text: str) -> None:
    await store.ask(lambda client: client.publish(store.key("orders"), text))


async def stays_ms(store: Store, key: bytes | str) -> int:
    return int(await store.ask(lambda client: client.pttl(key)))


async def revive(key: str, client: Client) -> None:
    await client.set(key, "1")


@contextlib.asynccontextmanager
async def store_with(url: str, *servers: str) -> AsyncIterator[Store]:
    """Open a store that takes servers for alive."""
    store = Store(url, timeout_s=2)
    try:
        for server in servers:
            await store.ask(partial(revive, chronicle.lease(store, server)))
        yield store
    finally:
        await store.close()


def update(run: str, *numbers: int, server: str = "s", is_over: bool = False) -> Update:
    """Tell of a plain request."""
    document = dict.fromkeys(("stage", "preview", "error", "place", "estimated_time", "progress"))
    told = document | {"state": "received", "job": False}
    lines = [Line(number=number, name="received", document=told) for number in numbers]
    return Update(
        run=run,
        server=server,
        is_job=False,
        is_first=numbers[0] == 1,
        is_over=is_over,
        stay_s=60,
        lines=lines,
    )


async def follow(store: Store, own: Slot) -> remote.Remote:
    page = await own.read()
    assert page is not None
    return remote.Remote(store, own, page, owner="", request_id="mine", keep_s=60)


async def asks_seldom(store: Store, followed: remote.Remote) -> None:
    """Wait for news that don't come, and count how often the store is asked."""
    await store.ask(lambda client: client.config_resetstat())
    began_s = time.monotonic()
    await followed.change(1.2)
    assert time.monotonic() - began_s >= 1.2
    counts = await store.ask(lambda client: client.info("commandstats"))
    assert counts["cmdstat_xread"]["calls"] < 10


async def are_followed(store: Store, number: int) -> bool:
    """Whether so many readers wait for news of a request."""
    clients = await store.ask(lambda client: client.client_list())
    return sum(client["cmd"] == "xread" for client in clients) == number


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "LEASE_S", 0.5)
    monkeypatch.setattr(chronicle, "RENEW_S", 0.1)
    monkeypatch.setattr(remote, "GRACE_S", 0.5)


@pytest.mark.usefixtures("short")
async def test_a_lost_job_that_is_sent_again_under_its_id_is_no_conflict(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, SLOW, QUICK) as (a, b):
        await post(a, "slow", "mine")
        await in_work(a, "slow")
        await known(b, "mine", "running")
        await store_of(a).close()  # nobody hears of it any more
        assert problem_of(await result(b, "mine"))[1] == "lost"
        assert (await post(b, "quick", "mine")).status_code == 202
        assert (await result(b, "mine")).status_code == 200
        await a.client.delete("/requests/mine")  # or its end would wait for the job


@pytest.mark.usefixtures("short")
async def test_a_job_that_a_dying_server_had_taken_is_taken_by_the_next(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    # The proxy sends it again at once, before anybody has said that it is lost.
    async with two(tmp_path, redis_server, SLOW, QUICK) as (a, b):
        await post(a, "slow", "mine")
        await in_work(a, "slow")
        await known(b, "mine", "running")
        await store_of(a).close()
        assert (await post(b, "quick", "mine")).status_code == 202
        assert (await result(b, "mine")).status_code == 200
        await a.client.delete("/requests/mine")


async def test_the_id_of_a_job_in_work_elsewhere_is_still_taken(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    async with two(tmp_path, redis_server, WAITS) as (a, b):
        await post(a, "waits", "mine")
        await gate.reached()
        assert problem_of(await post(b, "waits", "mine"))[1] == "conflict"
        gate.open()
        assert (await result(a, "mine")).status_code == 200


async def test_an_order_of_another_version_does_not_end_the_board(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with two(tmp_path, redis_server, SLOW) as (a, b):
        store = store_of(a)
        order = {"deed": "stop", "request_id": "x", "owner": "", "reason": ""}
        told = {"reply": store.key("reply", "x"), "sender": "x"}
        for strange in ({"new": 1}, {"deed": "move"}, {"sender": None, "reply": None}):
            await publish(store, json.dumps(order | told | strange))
        for text in ("[]", "no"):
            await publish(store, text)
        await post(a, "slow", "mine")
        await known(b, "mine", "running")
        assert (await b.client.delete("/requests/mine")).status_code == 200
        await known(a, "mine", "cancelled")
        assert "is not understood" in caplog.text


async def test_no_answer_to_an_order_stays_in_the_store(redis_server: RedisServer) -> None:
    one, other = Store(redis_server.url, timeout_s=10), Store(redis_server.url, timeout_s=10)
    hearing = asyncio.create_task(Relay(one, lambda _: 1).attend())
    sender = Relay(other, lambda _: 0)

    async def heard() -> bool:
        return await sender.order(Order(deed="cancel", request_id="x")) == 1

    await until(heard)
    hearing.cancel()
    await asyncio.wait((hearing,))
    for key in await other.ask(lambda client: client.keys("*")):
        assert await stays_ms(other, key) > 0
    await one.close()
    await other.close()


async def test_half_a_picture_of_a_server_that_died_does_not_stay(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "PIECE_BYTES", 4)
    store = Store(redis_server.url, timeout_s=10)
    kept = Slot(store, "", "mine")
    keeping = asyncio.create_task(
        kept.keep("run", Answer(headers=[], body=bytes(4_000_000), etag="e"), 60.0)
    )

    async def begun() -> bool:
        return bool(await store.ask(lambda client: client.keys("*picture*")))

    await until(begun)
    keeping.cancel()
    await asyncio.wait((keeping,))
    (key,) = await store.ask(lambda client: client.keys("*picture*"))
    assert 0 < await stays_ms(store, key) <= 60_000
    await store.close()


async def test_who_follows_a_request_that_another_of_its_name_replaced_asks_seldom(
    redis_server: RedisServer,
) -> None:
    async with store_with(redis_server.url, "s") as store:
        own = Slot(store, "", "mine")
        await own.tell(update("old", 1))
        old = await follow(store, own)
        await own.tell(update("new", 1, 2, 3))
        await old.change(SOON_S)
        assert old.run == "new"
        await asks_seldom(store, old)


async def test_who_follows_a_request_of_which_only_news_are_left_asks_seldom(
    redis_server: RedisServer,
) -> None:
    async with store_with(redis_server.url, "s") as store:
        own = Slot(store, "", "mine")
        await own.tell(update("old", 1))
        old = await follow(store, own)
        await own.tell(update("old", 2))
        # A full store drops what it likes.
        assert await store.ask(lambda client: client.delete("calotype:request:{:mine}:head"))
        await asks_seldom(store, old)


async def test_a_request_whose_id_is_sent_again_is_not_lost_while_it_runs(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FORGOTTEN_S", 0.0)
    async with store_with(redis_server.url, "s", "t") as store:
        own = Slot(store, "", "mine")
        await own.tell(update("old", 1, 2, 3))
        old = await follow(store, own)
        await own.tell(update("new", 1, server="t"))
        assert await old.look()
        assert (old.run, old.is_over, old.problem) == ("new", False, None)
        # Readers have the numbers of the older one, and the store knows those of the newer.
        assert [told.number for told in old.events] == [4]
        await own.tell(update("new", 2, server="t"))
        await old.change(SOON_S)
        assert [told.number for told in old.events] == [4, 5]
        await own.tell(update("new", 3, server="t", is_over=True))
        await old.over(SOON_S)
        assert (old.is_over, old.events[-1].number) == (True, 6)


async def test_the_end_of_a_newer_request_s_server_is_told_of_under_its_number(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GRACE_S", 0.0)
    async with store_with(redis_server.url, "s") as store:
        own = Slot(store, "", "mine")
        await own.tell(update("old", 1, 2, 3))
        old = await follow(store, own)
        await own.tell(update("new", 1, server="dead"))
        await old.over(SOON_S)
        assert old.problem is not None
        assert (old.problem.kind, old.events[-1].number) == ("lost", 5)
        page = await own.read()
        assert page is not None
        assert (page.run, page.is_over, page.lines[-1].number) == ("new", True, 2)


async def test_readers_of_a_request_that_is_sent_again_are_told_of_the_newer(
    tmp_path: Path, redis_server: RedisServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FORGOTTEN_S", 0.0)
    async with two(tmp_path, redis_server, WAITS, QUICK, store_timeout_s=1) as (a, b):
        first = begin(a, "mine", "waits")
        await gate.reached()
        await known(b, "mine", "running")
        reading = listen(b, "mine")
        patient = {"prefer": "wait=20"}
        waiting = asyncio.create_task(b.client.get("/requests/mine", headers=patient))
        await until(partial(are_followed, store_of(b), 2))
        assert (await begin(b, "mine", "quick")).status_code == 200
        state = (await waiting).json()
        assert (state["state"], state["model"]) == ("done", QUICK.id)
        events = await heard(reading)
        assert names(events)[-1] == "done"
        assert [event.number for event in events] == sorted({event.number for event in events})
        assert not first.done()
        gate.open()
        assert (await first).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_request_that_is_forgotten_while_it_is_looked_up_is_not_known(
    tmp_path: Path,
    redis_server: RedisServer,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    class Forgotten(Slot):
        async def read(self, seen: int = 0) -> Page | None:
            if (page := await super().read(seen)) is not None:
                await self.forget(page.run)
            return page

    async with two(tmp_path, redis_server, WAITS) as (a, b):
        running = begin(a, "mine", "waits")
        await gate.reached()
        await known(b, "mine", "running")
        monkeypatch.setattr(shared_board, "Slot", Forgotten)
        asking = b.client.request(method, "/requests/mine")
        assert (await asyncio.wait_for(asking, SOON_S)).status_code == 404
        gate.open()
        assert (await running).status_code == 200


async def test_a_job_is_done_by_a_server_that_ends_without_a_word_before(
    tmp_path: Path, redis_server: RedisServer, gate: Gate
) -> None:
    # As Ray Serve ends one when it needs fewer: no connection is open any more.
    settings = Settings(
        store_url=redis_server.url,
        data_dir=str(tmp_path / "data"),
        cache_dir=str(tmp_path / "cache"),
        isolation="thread",
    )
    async with serving(tmp_path / "b", WAITS, store_url=redis_server.url) as b:
        services = assemble(settings, Catalog((WAITS,), "waits"))
        app = create_server(services, jobs_s=30)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            await post(Server(app, client, b.tokens, services), "waits", "mine")
            await gate.reached()
            asyncio.get_running_loop().call_soon(gate.open)
        assert (await result(b, "mine")).status_code == 200
