import asyncio
from pathlib import Path

import pytest

from api.server import ECHO, Server, fake, picture, problem_of, serving, tokens_seen


async def test_the_catalog(server: Server) -> None:
    listed = (await server.client.get("/models")).json()
    assert [model["id"] for model in listed] == ["test/draw", "test/echo", "test/style"]
    echo = listed[1]
    assert echo["alias"] == "echo"
    assert echo["task"] == "image-to-image"
    assert echo["license"] == "Apache-2.0"
    assert echo["state"] == "unloaded"
    strength = echo["parameters"]["properties"]["strength"]
    assert (strength["minimum"], strength["maximum"], strength["default"]) == (0, 1, 0.5)
    assert (await server.client.get("/models/")).json() == listed


@pytest.mark.parametrize(
    "path", ["echo", "test/echo", "echo/info", "test/echo/info", "echo/", "test%2Fecho"]
)
async def test_one_model(server: Server, path: str) -> None:
    found = (await server.client.get(f"/models/{path}")).json()
    assert found["id"] == "test/echo"
    assert found["backend"] == "fake"
    assert found["revision"] == ECHO.revision
    assert found["parameters"]["type"] == "object"
    assert {"size_bytes", "tile_px", "scale", "state", "license", "task"} <= set(found)


async def test_a_model_may_be_named_info(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("info"), fake("other")) as server:
        assert (await server.client.get("/models/test/info")).json()["id"] == "test/info"
        assert (await server.client.get("/models/info/info")).json()["id"] == "test/info"


async def test_the_state_follows_the_model(server: Server) -> None:
    async def status() -> object:
        return (await server.client.get("/status/echo")).json()

    cold = {"loaded": False, "state": "Loadable", "compute_type": "cpu", "framework": "fake"}
    assert await status() == cold
    await server.run()
    assert await status() == cold | {"loaded": True, "state": "Loaded"}
    found = (await server.client.get("/models/test/echo")).json()
    assert (found["state"], found["precision"]) == ("loaded", "none (fake)")


async def test_a_loading_model_tells_how_long(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.3), hold_s=0) as server:
        await server.run("slow")
        found = (await server.client.get("/models/slow")).json()
        assert found["state"] == "loading"
        assert found["estimated_load_s"] > 0
        assert (await server.client.get("/status/slow")).json()["state"] == "Loadable"
        await asyncio.sleep(0.4)


async def test_models_by_framework(server: Server) -> None:
    listed = (await server.client.get("/framework/fake")).json()
    assert {"model_id": "test/echo", "task": "image-to-image"} in listed
    assert len(listed) == 3
    assert (await server.client.get("/framework/diffusers")).json() == []


@pytest.mark.parametrize("name", ["echo", "test/echo"])
async def test_the_hub_s_record(server: Server, name: str) -> None:
    found = (await server.client.get(f"/api/models/{name}")).json()
    assert found["id"] == "test/echo"
    assert found["pipeline_tag"] == "image-to-image"
    assert found["tags"] == ["image-to-image", "fake", "license:Apache-2.0"]
    assert found["author"] == "test"
    assert found["inferenceProviderMapping"]["hf-inference"]["task"] == "image-to-image"


async def test_the_hub_s_tasks_name_the_default_model(server: Server) -> None:
    found = (await server.client.get("/api/tasks")).json()
    assert found == {"image-to-image": {"widgetModels": ["test/echo"]}}


@pytest.mark.parametrize("prefix", ["/models", "/status", "/api/models"])
@pytest.mark.parametrize("name", ["nothing", "test/nothing", "nothing/info"])
async def test_unknown_models(server: Server, prefix: str, name: str) -> None:
    status, kind, message = problem_of(await server.client.get(f"{prefix}/{name}"))
    assert (status, kind) == (404, "unknown_model")
    assert message.startswith("Model ")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/health", "/ready", "/info", "/metrics", "/openapi.json", "/api/tasks"),
        *("/models", "/models/echo", "/status/echo", "/framework/fake", "/api/models/echo"),
    ],
)
async def test_head_works_where_get_does(server: Server, path: str) -> None:
    got, headed = await server.client.get(path), await server.client.head(path)
    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-type"] == got.headers["content-type"]
    assert headed.headers["x-content-type-options"] == "nosniff"


async def test_tokens_see_the_models_they_may_run(server: Server) -> None:
    mine = {"authorization": f"Bearer {server.tokens.create('mine', models=['echo'])}"}
    admin = {"authorization": f"Bearer {server.tokens.create('admin', scopes=['admin'])}"}
    await tokens_seen()

    async def names(headers: dict[str, str]) -> list[str]:
        listed = (await server.client.get("/models", headers=headers)).json()
        return [model["id"] for model in listed]

    assert await names(mine) == ["test/echo"]
    assert len(await names(admin)) == 3
    for path in ("/models/draw", "/status/draw", "/api/models/draw", "/models/draw/info"):
        assert problem_of(await server.client.get(path, headers=mine))[:2] == (403, "forbidden")
        assert (await server.client.get(path, headers=admin)).status_code == 200
    page = (await server.client.get("/openapi.json", headers=mine)).json()
    assert [n for n in page["components"]["schemas"] if n.startswith("parameters.")] == [
        "parameters.test--echo"
    ]


async def test_the_catalog_says_nothing_of_folders(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO) as server:
        await server.run(upload=picture())
        for path in ("/models", "/models/echo", "/info", "/api/models/echo", "/ready"):
            assert str(tmp_path) not in (await server.client.get(path)).text
