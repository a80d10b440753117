from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.server import ECHO, Server, picture, problem_of, serving, tokens_seen
from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore

OPEN = ["/health", "/ready", "/"]
GUARDED = ["/models", "/models/echo", "/models/nothing", "/status/echo", "/framework/fake"]
GUARDED += ["/api/models/echo", "/api/tasks", "/info", "/metrics", "/openapi.json"]
INVALID = "Authorization header is correct, but the token seems invalid"


@dataclass(frozen=True)
class Closed:
    """A server with tokens."""

    server: Server
    secret: str

    async def run(self, authorization: str | None, model: str = "echo") -> httpx.Response:
        headers = {} if authorization is None else {"authorization": authorization}
        return await self.server.run(model, headers=headers)


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Closed]:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    secret = store.create("ci")
    async with serving(tmp_path) as server:
        yield Closed(server, secret)


@pytest.mark.parametrize("path", OPEN)
async def test_what_needs_no_token(closed: Closed, path: str) -> None:
    assert (await closed.server.client.get(path)).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
async def test_what_needs_a_token(closed: Closed, path: str) -> None:
    response = await closed.server.client.get(path)
    assert problem_of(response)[:2] == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    told = {"authorization": f"Bearer {closed.secret}"}
    expected = 404 if path.endswith("nothing") else 200
    assert (await closed.server.client.get(path, headers=told)).status_code == expected


@pytest.mark.parametrize("form", ["Bearer {}", "Bearer: {}", "bearer {}"])
async def test_the_forms_of_the_header(closed: Closed, form: str) -> None:
    assert (await closed.run(form.format(closed.secret))).status_code == 200


@pytest.mark.parametrize("path", ["/models/echo", "/", "/models/nothing"])
async def test_no_token(closed: Closed, path: str) -> None:
    response = await closed.server.client.post(path, content=picture())
    assert problem_of(response)[:2] == (401, "unauthorized")


async def test_a_wrong_token_has_the_text_that_clients_match(closed: Closed) -> None:
    response = await closed.run("Bearer hf_wrong")
    assert problem_of(response) == (401, "unauthorized", INVALID)


async def test_two_authorizations_are_none(closed: Closed) -> None:
    lines = [("authorization", f"Bearer {closed.secret}"), ("authorization", "Bearer other")]
    assert problem_of(await closed.server.run(headers=lines))[0] == 401


@pytest.mark.inside  # clients don't look for an early answer
async def test_the_body_of_a_stranger_is_not_read(closed: Closed) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield picture()

    response = await closed.server.client.post("/models/echo", content=body())
    assert (response.status_code, read) == (401, [])


async def test_a_token_for_other_models(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    by_alias = {"authorization": f"Bearer {store.create('a', models=['echo'])}"}
    by_id = {"authorization": f"Bearer {store.create('b', models=['test/ec*'])}"}
    async with serving(tmp_path) as server:
        for headers in (by_alias, by_id):
            for name in ("echo", "test/echo"):
                assert (await server.run(name, headers=headers)).status_code == 200
            status, kind, message = problem_of(await server.run("draw", headers=headers))
            assert (status, kind) == (403, "forbidden")
            assert "test/draw" in message


async def test_a_token_that_may_not_run(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    admin = {"authorization": f"Bearer {store.create('ops', scopes=['admin'])}"}
    async with serving(tmp_path) as server:
        assert problem_of(await server.run(headers=admin))[:2] == (403, "forbidden")
        assert (await server.client.get("/metrics", headers=admin)).status_code == 200


async def test_a_cached_answer_needs_the_right_to_ask_for_it(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    may = {"authorization": f"Bearer {store.create('may')}"}
    may_not = {"authorization": f"Bearer {store.create('may-not', models=['draw'])}"}
    async with serving(tmp_path) as server:
        assert (await server.run(headers=may)).headers["x-cache"] == "miss"
        assert (await server.run(headers=may)).headers["x-cache"] == "hit"
        assert (await server.run(headers=may_not)).status_code == 403


async def test_a_spent_rate(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "data" / TOKENS_FILE)
    told = {"authorization": f"Bearer {store.create('ci', rate_per_minute=2)}"}
    async with serving(tmp_path, ECHO) as server:
        first = await server.run(headers=told)
        assert first.headers["ratelimit"].startswith('"default";r=1;t=')
        assert first.headers["ratelimit-policy"] == '"default";q=2;w=60'
        bad = await server.run(upload=b"hello", headers=told)
        assert (bad.status_code, bad.headers["ratelimit"][:13]) == (400, '"default";r=0')
        spent = await server.run(headers=told)
        status, kind, message = problem_of(spent)
        assert (status, kind) == (429, "rate_limited")
        assert message.startswith("Token ci may send 2 requests a minute")
        assert 1 <= int(spent.headers["retry-after"]) <= 30
        assert spent.headers["ratelimit"].startswith('"default";r=0;t=')
        assert spent.headers["ratelimit-policy"] == '"default";q=2;w=60'
        # To look around costs nothing.
        assert (await server.client.get("/models", headers=told)).status_code == 200


async def test_a_token_without_a_rate_has_no_such_headers(closed: Closed) -> None:
    response = await closed.run(f"Bearer {closed.secret}")
    assert "ratelimit" not in response.headers


async def test_a_token_made_later_closes_an_open_server(server: Server) -> None:
    assert (await server.run()).status_code == 200
    server.tokens.create("first")
    await tokens_seen()
    assert (await server.run()).status_code == 401
