from pathlib import Path

import httpx

from api.server import ECHO, Server, problem_of
from api.shared import answers, is_up, token, two
from redis_server import RedisServer


async def ask(server: Server, who: dict[str, str]) -> httpx.Response:
    return await server.run("echo", headers=who)


async def test_a_rate_is_that_of_all_servers_together(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine = await token(redis_server, "mine", rate_per_minute=4)
    other = await token(redis_server, "other", rate_per_minute=4)
    async with two(tmp_path, redis_server, ECHO) as (a, b):
        told = [await ask(server, mine) for server in (a, b, b, a)]
        assert [answer.status_code for answer in told] == [200] * 4
        left = [answer.headers["ratelimit"].split(";")[1] for answer in told]
        assert left == ["r=3", "r=2", "r=1", "r=0"]
        assert told[0].headers["ratelimit-policy"] == '"default";q=4;w=60'
        for server in (a, b):
            refused = await ask(server, mine)
            assert problem_of(refused)[:2] == (429, "rate_limited")
            assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
            assert 1 <= int(refused.headers["retry-after"]) <= 15
        assert (await ask(b, other)).status_code == 200


async def test_while_the_store_is_away_each_server_counts_for_itself(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    mine = await token(redis_server, "mine", rate_per_minute=2)
    async with two(tmp_path, redis_server, ECHO) as servers:
        for server in servers:
            await answers(server, 200, mine)
        redis_server.stop()
        for server in servers:
            await is_up(server, up=False)
            statuses = [(await ask(server, mine)).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
        redis_server.start()
        for server in servers:
            await is_up(server, up=True)
        assert (await ask(servers[0], mine)).status_code == 200


async def test_without_a_rate_nothing_is_counted(tmp_path: Path, redis_server: RedisServer) -> None:
    mine = await token(redis_server, "mine")
    async with two(tmp_path, redis_server, ECHO) as (a, _):
        assert "ratelimit" not in (await ask(a, mine)).headers
        store = a.services.store
        assert store is not None
        assert not await store.ask(lambda client: client.keys("calotype:rate:*"))
