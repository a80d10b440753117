"""What is lost with a server, or written by another version of one, harms nobody else."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest

from api.server import LONG as ENDLESS
from api.server import Gate, Server, fake, in_work, problem_of, serving, until
from api.shared import known, post, result, two
from calotype.api import chronicle, remote, slot
from calotype.api.record import Answer
from calotype.api.relay import Order, Relay
from calotype.api.slot import Line, Slot, Update
from calotype.assembly import assemble, create_server
from calotype.catalog.catalog import Catalog
from calotype.settings import Settings
from calotype.store.client import Store
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
    store = Store(redis_server.url, timeout_s=10)
    own = Slot(store, "", "mine")
    document = {"state": "received", "stage": None, "preview": None, "error": None, "job": False}
    document |= dict.fromkeys(("place", "estimated_time", "progress"))

    def update(run: str, *numbers: int) -> Update:
        lines = [Line(number=number, name="received", document=document) for number in numbers]
        return Update(run=run, server="s", is_job=False, is_first=True, stay_s=60, lines=lines)

    await store.ask(lambda client: client.set(chronicle.lease(store, "s"), "1"))
    await own.tell(update("old", 1))
    page = await own.read()
    assert page is not None
    old = remote.Remote(store, own, page, owner="", request_id="mine", keep_s=60)
    await own.tell(update("new", 1, 2, 3))
    await store.ask(lambda client: client.config_resetstat())
    began_s = time.monotonic()
    await old.change(1.2)
    assert time.monotonic() - began_s >= 1.2
    counts = await store.ask(lambda client: client.info("commandstats"))
    assert counts["cmdstat_xread"]["calls"] < 10
    await store.close()


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
