import asyncio
import time
from pathlib import Path

import pytest

from api.server import ECHO, problem_of, serving
from api.shared import answers, is_up, token, two
from calotype.api import door
from calotype.api.door import TOKENS_FILE
from calotype.api.shared_tokens import SharedTokens
from calotype.api.tokens import TokenStore
from calotype.errors import InvalidSettingError, StoreUnavailableError, UnauthorizedError
from calotype.settings import Settings
from calotype.store.client import Store
from redis_server import RedisServer


async def test_a_token_opens_and_closes_every_server(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, ECHO) as servers:
        for server in servers:
            await answers(server, 200)
        mine = await token(redis_server, "mine")
        for server in servers:
            await answers(server, 401)
            await answers(server, 200, mine)
        other = await token(redis_server, "other")
        await asyncio.to_thread(SharedTokens(redis_server.url).revoke, "mine")
        began_s = time.monotonic()
        for server in servers:
            await answers(server, 401, mine)
        assert time.monotonic() - began_s < 1.5
        for server in servers:
            await answers(server, 200, other)


async def test_who_had_a_token_keeps_it_while_the_store_is_away(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine = await token(redis_server, "mine")
    async with two(tmp_path, redis_server, ECHO) as (a, _):
        redis_server.stop()
        await is_up(a, up=False)
        assert (await a.client.get("/models", headers=mine)).status_code == 200
        assert (await a.client.get("/models")).status_code == 401
        redis_server.start()
        await is_up(a, up=True)
        await asyncio.to_thread(SharedTokens(redis_server.url).revoke, "mine")
        await answers(a, 401, mine)


async def test_a_server_that_has_never_read_its_tokens_is_closed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine = await token(redis_server, "mine")
    redis_server.stop()
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        for headers in (None, mine):
            refused = await server.client.get("/models", headers=headers)
            assert problem_of(refused)[:2] == (503, "store_unavailable")
            assert (await server.run("echo", headers=headers)).status_code == 503
        assert (await server.client.get("/health")).status_code == 200
        redis_server.start()
        await answers(server, 200, mine)
        await answers(server, 401)


async def test_a_store_without_tokens_opens_a_server_of_this_machine_only(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    shared = {"store_url": redis_server.url, "host": "0.0.0.0"}  # noqa: S104
    async with serving(tmp_path, ECHO, **shared) as server:
        assert (await server.client.get("/models")).status_code == 401
    async with serving(tmp_path, ECHO, insecure=True, **shared) as server:
        assert (await server.client.get("/models")).status_code == 200


async def test_the_tokens_of_a_file_are_not_used_and_open_nothing(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    file = TokenStore(tmp_path / "data" / TOKENS_FILE)
    mine = {"authorization": f"Bearer {file.create('mine')}"}
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        assert "calotype token copy" in caplog.text
        assert (await server.client.get("/models")).status_code == 401
        assert (await server.client.get("/models", headers=mine)).status_code == 401
        shared = SharedTokens(redis_server.url)
        for hashed, each in file.by_hash().items():
            assert await asyncio.to_thread(shared.add, hashed, each)
            assert not await asyncio.to_thread(shared.add, hashed, each)
        await answers(server, 200, mine)


async def test_a_store_that_lost_its_tokens_opens_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine = await token(redis_server, "mine")
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        await answers(server, 200, mine)
        store = server.services.store
        assert store is not None
        await store.ask(lambda client: client.flushall())
        await answers(server, 401, mine)
        assert (await server.client.get("/models")).status_code == 401


async def test_what_was_closed_when_it_was_deployed_stays_so(redis_server: RedisServer) -> None:
    """A server that comes later, of a cluster on loopback whose store has lost its tokens."""
    settings, store = Settings(store_url=redis_server.url), Store(redis_server.url)
    for closed in (False, True):
        made = door.make_door(settings, store, closed=closed)
        assert made.copy is not None
        await made.copy.refresh()
        if closed:
            with pytest.raises(UnauthorizedError):
                made.authenticator.authenticate(None)
        else:
            assert made.authenticator.authenticate(None).token is None
    await store.close()


async def test_damaged_tokens_leave_those_that_are_known(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    mine = await token(redis_server, "mine")
    async with serving(tmp_path, ECHO, store_url=redis_server.url) as server:
        store = server.services.store
        assert store is not None
        await store.ask(lambda client: client.hset("calotype:{tokens}:table", "other", "no JSON"))
        await store.ask(lambda client: client.set("calotype:{tokens}:version", "another"))
        async with asyncio.timeout(20):
            while "are damaged" not in caplog.text:  # noqa: ASYNC110  nothing else tells
                await asyncio.sleep(0.01)
        assert (await server.client.get("/models", headers=mine)).status_code == 200


def test_names_are_taken_once_and_revoked_once(redis_server: RedisServer) -> None:
    tokens = SharedTokens(redis_server.url)
    assert tokens.is_empty()
    tokens.create("b", models=["x/*"], scopes=["run", "admin"], rate_per_minute=3)
    tokens.create("a")
    assert [each.name for each in tokens.list()] == ["a", "b"]
    assert tokens.list()[1].models == ("x/*",)
    assert tokens.list()[1].rate_per_minute == 3
    with pytest.raises(InvalidSettingError, match="a token named 'a' exists"):
        tokens.create("a")
    tokens.revoke("a")
    with pytest.raises(InvalidSettingError, match="there is no token named 'a'"):
        tokens.revoke("a")


def test_a_store_that_is_away_at_the_start_is_no_open_door(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(store_url=redis_server.url)
    assert not door.has_tokens(settings)
    redis_server.stop()
    assert door.has_tokens(settings)
    assert "nobody is let in" in caplog.text


def test_commands_say_that_the_store_is_away(redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(StoreUnavailableError):
        SharedTokens(redis_server.url).create("a")
