import json
import logging
from pathlib import Path

import pytest

from api.server import Server, fake, picture, sample, serving
from calotype.api.operation import SHOWN_SETTINGS, VERSION
from calotype.api.problems import STATUS


async def test_the_root_says_ok(server: Server) -> None:
    assert (await server.client.get("/")).json() == {"ok": "ok"}


async def test_health(server: Server) -> None:
    assert (await server.client.get("/health")).json() == {"status": "ok", "version": VERSION}


async def test_ready_when_the_default_model_can_be_loaded(server: Server) -> None:
    found = (await server.client.get("/ready")).json()
    assert found == {"status": "ready", "state": "unloaded", "model": "test/echo"}
    await server.run()
    assert (await server.client.get("/ready")).json()["state"] == "loaded"


async def test_info_shows_limits_and_no_secrets(server: Server) -> None:
    found = (await server.client.get("/info")).json()
    assert found["version"] == VERSION
    assert found["default_model"] == "test/echo"
    assert found["output_formats"] == ["png", "jpeg", "webp"]
    assert found["max_upload_bytes"] == 32 * 1024 * 1024
    assert set(SHOWN_SETTINGS) <= set(found)
    assert not {"data_dir", "cache_dir", "models_dir", "catalog_file", "host"} & set(found)


async def test_requests_and_bytes_are_counted(tmp_path: Path) -> None:
    upload = picture()
    good = {"model": "test/counted", "status": "200"}
    async with serving(tmp_path, fake("counted")) as server:
        uploads, answers = (
            sample("calotype_upload_bytes_total"),
            sample("calotype_answer_bytes_total"),
        )
        response = await server.run("counted", upload)
        assert sample("calotype_upload_bytes_total") - uploads == len(upload)
        assert sample("calotype_answer_bytes_total") - answers == len(response.content)
        assert sample("calotype_requests_total", **good) == 1
        assert sample("calotype_request_duration_seconds_count", model="test/counted") == 1
        await server.run("counted", b"hello")
        assert sample("calotype_requests_total", model="test/counted", status="400") == 1
        shown = await server.client.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain; version=")
    assert 'calotype_requests_total{model="test/counted",status="200"} 1.0' in shown.text


async def test_unknown_models_make_no_new_label(server: Server) -> None:
    before = sample("calotype_requests_total", model="", status="404")
    await server.client.post("/models/made-up-by-a-client", content=picture())
    assert sample("calotype_requests_total", model="", status="404") == before + 1
    assert "made-up-by-a-client" not in (await server.client.get("/metrics")).text


async def test_one_line_is_logged_for_each_request(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "calotype.access"):
        response = await server.client.post(
            "/models/echo?token=hunter2",
            content=picture(),
            headers={"authorization": "Bearer calo_hunter2", "x-request-id": "mine"},
        )
        await server.client.get("/models/%0Aforged")
    first, second = [record for record in caplog.records if record.name == "calotype.access"]
    fields = first.__dict__
    assert (fields["method"], fields["path"], fields["status"]) == ("POST", "/models/echo", 200)
    assert (fields["model"], fields["cache"]) == ("test/echo", "miss")
    assert fields["bytes"] == len(response.content)
    assert fields["ms"] >= 0
    assert first.getMessage().startswith("POST /models/echo 200 ")
    assert "hunter2" not in str(fields)
    assert "\n" not in second.getMessage()


async def test_nothing_is_logged_where_nobody_listens(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "calotype.access"):
        await server.run()
    assert not [record for record in caplog.records if record.name == "calotype.access"]


async def test_the_openapi_page_is_written_from_the_routes(server: Server) -> None:
    page = (await server.client.get("/openapi.json")).json()
    assert page["openapi"] == "3.1.0"
    assert {
        "/models/{id}",
        "/",
        "/pipeline/image-to-image/{id}",
        "/hf-inference/models/{id}",
        "/models",
        "/models/{id}/info",
        "/status/{id}",
        "/framework/{name}",
        "/api/models/{id}",
        "/api/tasks",
        "/health",
        "/ready",
        "/info",
        "/metrics",
        "/openapi.json",
    } <= set(page["paths"])
    run = page["paths"]["/models/{id}"]["post"]
    assert {str(int(status)) for status in STATUS.values()} <= set(run["responses"])
    assert {"application/json", "image/*"} == set(run["requestBody"]["content"])
    assert {"200", "304"} <= set(run["responses"])


async def test_the_openapi_page_refers_to_what_is_there(server: Server) -> None:
    text = (await server.client.get("/openapi.json")).text
    page = json.loads(text)
    schemas = page["components"]["schemas"]
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(schemas)
    assert schemas["parameters.test--echo"]["properties"]["strength"]["maximum"] == 1


async def test_the_answer_has_no_header_that_the_page_leaves_out(server: Server) -> None:
    page = (await server.client.get("/openapi.json")).json()
    listed = page["paths"]["/"]["post"]["responses"]["200"]["headers"]
    response = await server.run("draw", unknown=1)
    standard = {"content-type", "content-length", "x-content-type-options"}
    assert set(response.headers) - standard == set(listed)
