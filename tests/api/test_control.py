import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    sample,
    serving,
    state,
)
from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from calotype.domain.model import ModelSpec, WeightFile

MIB = 1024 * 1024


# Models.


@pytest.mark.parametrize("name", ["echo", "test/echo"])
async def test_a_model_is_loaded(server: Server, name: str) -> None:
    response = await command(server, f"/models/{name}/load")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("load_time_s") >= 0
    said = {"model": "test/echo", "state": "loaded", "precision": "none (fake)"}
    assert body == said | {"resident_bytes": None}
    assert await state(server, "echo") == "loaded"
    again = await command(server, f"/models/{name}/load")
    assert (again.status_code, again.json()["state"]) == (200, "loaded")


@pytest.mark.parametrize("name", ["echo", "test/echo"])
async def test_a_model_is_unloaded_loaded_or_not(server: Server, name: str) -> None:
    gone = {"model": "test/echo", "state": "unloaded"}
    cold = await command(server, f"/models/{name}/unload")
    assert (cold.status_code, cold.json()) == (200, gone)
    await server.run("echo")
    assert await state(server, "echo") == "loaded"
    assert (await command(server, f"/models/{name}/unload")).json() == gone
    assert await state(server, "echo") == "unloaded"
    assert (await server.run("echo", picture(seed=1))).status_code == 200


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_model_that_is_not_there(server: Server, verb: str) -> None:
    found = problem_of(await command(server, f"/models/test/nothing/{verb}"))
    assert found == (404, "unknown_model", "Model test/nothing does not exist")
    assert problem_of(await command(server, f"/models//{verb}"))[:2] == (404, "unknown_model")


async def test_a_model_that_can_t_be_loaded(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("bad", fail="load")) as server:
        for _ in range(2):  # an operator's word counts for more than the rest after a failure
            found = problem_of(await command(server, "/models/bad/load"))
            assert found == (500, "config", "test/bad: told to fail at load")
        told = (await server.client.get("/models/bad")).json()
        assert (told["state"], told["resident_bytes"]) == ("failed", None)
        assert 0 < told["retry_after_s"] <= 10


async def test_a_load_that_takes_longer_than_its_deadline_goes_on(
    tmp_path: Path, gate: Gate
) -> None:
    async with serving(tmp_path, fake("late", load_s=1)) as server:
        response = await command(server, "/models/late/load", x_deadline_ms="20")
        status, kind, message = problem_of(response)
        assert (status, kind) == (504, "timeout")
        assert message.startswith("the deadline passed before model late was loaded")
        assert await state(server, "late") == "loading"
        gate.open()
        assert (await command(server, "/models/late/load")).status_code == 200
    counted = "calotype_model_load_duration_seconds_count"
    assert sample(counted, model="test/late") == 1


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_deadline_that_is_none(server: Server, verb: str) -> None:
    response = await command(server, f"/models/echo/{verb}", x_deadline_ms="soon")
    assert problem_of(response)[:2] == (422, "validation")
    assert await state(server, "echo") == "unloaded"


async def test_an_unload_waits_for_the_model_s_jobs(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        running = begin(server, "one")
        await gate.reached()
        late = await command(server, "/models/slow/unload", x_deadline_ms="20")
        status, kind, message = problem_of(late)
        assert (status, kind) == (504, "timeout")
        assert message.startswith("the deadline passed before the jobs of model slow were done")
        assert not running.done()
        gate.open()
        assert (await asyncio.wait_for(running, SOON_S)).status_code == 200
        assert await state(server, "slow") == "unloaded"


async def test_an_unload_is_answered_after_the_model_s_jobs(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        running = begin(server, "one")
        await gate.reached()
        unloading = asyncio.create_task(command(server, "/models/slow/unload"))
        await in_work(server, "slow", wanted="unloaded")  # new jobs would load it anew
        assert not unloading.done()
        gate.open()
        response = await asyncio.wait_for(unloading, SOON_S)
        assert (response.status_code, jobs()) == (200, 0)
        assert (await asyncio.wait_for(running, SOON_S)).status_code == 200


async def test_models_may_be_named_like_the_verbs(tmp_path: Path) -> None:
    models = (fake("echo"), fake("load"), fake("unload"))
    async with serving(tmp_path, *models) as server:
        for verb in ("load", "unload"):
            for name in (f"test/{verb}", verb):
                run = await server.run(name)
                assert run.headers["x-model-id"] == f"test/{verb}"
            described = (await server.client.get(f"/models/test/{verb}")).json()
            assert described["id"] == f"test/{verb}"
        for name in ("test/load", "load"):
            loaded = await command(server, f"/models/{name}/load")
            assert (loaded.status_code, loaded.json()["model"]) == (200, "test/load")
        gone = await command(server, "/models/test/unload/unload")
        assert (gone.status_code, gone.json()["model"]) == (200, "test/unload")


async def test_only_post_steers(server: Server) -> None:
    response = await server.client.get("/requests/one/cancel")
    assert problem_of(response)[:2] == (405, "method")
    assert response.headers["allow"] == "POST"
    assert problem_of(await server.client.get("/models/echo/load"))[:2] == (404, "unknown_model")


# A model that is too large.


def big() -> ModelSpec:
    weights = WeightFile(role="bin", package="", path="/secret", sha256="", size_bytes=3 * MIB)
    return replace(fake("big"), files=(weights,))


async def test_a_model_beyond_the_memory_budget(tmp_path: Path) -> None:
    async with serving(tmp_path, big(), ECHO, memory_bytes=2 * MIB) as server:
        status, kind, message = problem_of(await command(server, "/models/big/load"))
        assert (status, kind) == (403, "forbidden")
        assert message.startswith("Model big is too large")
        told = (await server.client.get("/status/big")).json()
        assert (told["state"], told["loaded"]) == ("TooBig", False)
        assert await state(server, "big") == "too_large"
        ready = await server.client.get("/ready")
        found = problem_of(ready)
        assert found == (503, "not_ready", "Model big does not fit the memory budget")
        assert ready.json()["state"] == "too_large"
        assert (await command(server, "/models/echo/load")).status_code == 200


# Who may.

PATHS = ["/models/echo/load", "/models/echo/unload", "/requests/one/cancel"]
DEEDS = dict(zip(PATHS, ("load models", "unload models", "cancel requests"), strict=True))


def bearer(folder: Path, name: str, **allowed: Any) -> dict[str, str]:  # noqa: ANN401
    return {"authorization": f"Bearer {TokenStore(folder / TOKENS_FILE).create(name, **allowed)}"}


@pytest.mark.parametrize("path", PATHS)
async def test_commands_need_the_scope_admin(tmp_path: Path, path: str) -> None:
    run = bearer(tmp_path / "data", "ci")
    admin = bearer(tmp_path / "data", "ops", scopes=["admin"], rate_per_minute=1)
    async with serving(tmp_path) as server:
        stranger = await server.client.post(path)
        assert problem_of(stranger)[:2] == (401, "unauthorized")
        refused = problem_of(await server.client.post(path, headers=run))
        text = f"Token ci may not {DEEDS[path]}: it lacks the scope 'admin'"
        assert refused == (403, "forbidden", text)
        unknown = path.replace("echo", "nothing")
        assert (await server.client.post(unknown, headers=run)).status_code == 403
        for _ in range(3):  # more than its rate
            response = await server.client.post(path, headers=admin)
            assert response.status_code == (404 if "requests" in path else 200)
            assert "ratelimit" not in response.headers


async def test_the_openapi_page_names_the_scope(server: Server) -> None:
    paths = (await server.client.get("/openapi.json")).json()["paths"]
    for path in ("/models/{id}/load", "/models/{id}/unload", "/requests/{request_id}/cancel"):
        operation = paths[path]["post"]
        assert {"token": ["admin"]} in operation["security"]
        asked = {item["name"] for item in operation["parameters"]}
        assert asked == ({"request_id"} if "requests" in path else {"id", "x-deadline-ms"})
        assert "requestBody" not in operation
    assert {"token": []} in paths["/models/{id}"]["post"]["security"]


# A server that drains.


async def test_a_draining_server_reads_no_body(tmp_path: Path) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield picture()

    async with serving(tmp_path) as server:
        await server.run()
        server.services.refuse()
        for path in ("/models/echo", "/", "/models/nothing"):
            response = await server.client.post(path, content=body())
            assert problem_of(response)[:2] == (503, "shutting_down")
            assert response.headers["retry-after"] == "5"
        assert read == []


async def test_what_a_draining_server_still_does(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        running = begin(server, "mine")
        await in_work(server, "slow")
        server.services.refuse()
        assert problem_of(await server.client.get("/ready"))[:2] == (503, "shutting_down")
        assert problem_of(await command(server, "/models/slow/load"))[:2] == (503, "shutting_down")
        for path in ("/health", "/models", "/models/slow", "/status/slow", "/info", "/metrics"):
            assert (await server.client.get(path)).status_code == 200
        assert (await command(server, "/requests/mine/cancel")).status_code == 200
        assert (await asyncio.wait_for(running, SOON_S)).status_code == 409
        assert (await command(server, "/models/slow/unload")).status_code == 200
