"""Two whole servers that share a store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from api.server import Server, picture, serving, until
from calotype.api.shared_tokens import SharedTokens
from calotype.domain.model import ModelSpec
from redis_server import RedisServer

Pair = tuple[Server, Server]


@contextlib.asynccontextmanager
async def two(
    folder: Path,
    store: RedisServer,
    *specs: ModelSpec,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[Pair]:
    """Serve models twice, over one store."""
    settings["store_url"] = store.url
    async with (
        serving(folder / "a", *specs, **settings) as a,
        serving(folder / "b", *specs, **settings) as b,
    ):
        yield a, b


async def token(store: RedisServer, name: str, **allowed: Any) -> dict[str, str]:  # noqa: ANN401
    """Make a token in a store; return the headers that it is sent in."""
    secret = await asyncio.to_thread(SharedTokens(store.url).create, name, **allowed)
    return {"authorization": f"Bearer {secret}"}


async def answers(server: Server, status: int, headers: dict[str, str] | None = None) -> None:
    """Wait until a guarded request is answered with a status."""

    async def true() -> bool:
        return (await server.client.get("/models", headers=headers)).status_code == status

    await until(true)


async def is_up(server: Server, *, up: bool) -> None:
    """Wait until a server has noticed that its store is back, or away."""
    store = server.services.store
    assert store is not None

    async def true() -> bool:
        return store.is_up is up

    await until(true)


async def post(
    server: Server, model: str, name: str, seed: int = 0, prefer: str = "respond-async"
) -> httpx.Response:
    """Post a job under an id."""
    headers = {"prefer": prefer, "x-request-id": name}
    return await server.client.post(f"/models/{model}", content=picture(seed=seed), headers=headers)


async def result(server: Server, name: str, wait: int = 20) -> httpx.Response:
    """Fetch a job's picture, after waiting for its end."""
    headers = {"prefer": f"wait={wait}"} if wait else {}
    return await server.client.get(f"/requests/{name}/result", headers=headers)


async def known(server: Server, name: str, state: str) -> None:
    """Wait until a server knows a request, and its state."""

    async def true() -> bool:
        found = await server.client.get(f"/requests/{name}")
        return found.status_code == 200 and found.json()["state"] == state

    await until(true)
