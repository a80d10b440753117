import asyncio
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.server import ECHO, Server, fake, picture, problem_of, serving
from calotype import errors
from calotype.api import problems
from calotype.api.problems import STATUS, documented, problem, status_of
from calotype.backends import registry
from calotype.domain.model import ModelSpec


def leaves(
    cls: type[errors.CalotypeError] = errors.CalotypeError,
) -> Iterator[type[errors.CalotypeError]]:
    below = cls.__subclasses__()
    if not below:
        yield cls
    for child in below:
        yield from leaves(child)


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(leaves())
    assert status_of(errors.BackendError("x")) == 500


def test_every_status_is_documented() -> None:
    assert set(documented()) == set(STATUS.values())
    assert documented()[STATUS[errors.QueueFullError]] == ["rate_limited", "overloaded"]


async def test_a_crash_answers_a_fixed_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, fake("bad", fail="crash")) as server:
        status, kind, message = problem_of(await server.run("bad"))
    assert (status, kind) == (500, "backend")
    assert message == "The model failed; the server's log says why"
    assert "told to crash, at /secret/path" in caplog.text


@pytest.mark.parametrize(("fail", "word"), [("memory", "memory"), ("output", "no usable picture")])
async def test_other_failures_of_a_model(tmp_path: Path, fail: str, word: str) -> None:
    async with serving(tmp_path, fake("bad", fail=fail)) as server:
        status, kind, message = problem_of(await server.run("bad"))
    assert (status, kind) == (500, "backend")
    assert word in message
    assert "told to" not in message


async def test_missing_weights_say_what_is_missing(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("bad", fail="load")) as server:
        found = problem_of(await server.run("bad"))
        assert found == (500, "config", "test/bad: told to fail at load")
        ready = await server.client.get("/ready")
        assert problem_of(ready)[:2] == (503, "not_ready")
        assert ready.json()["state"] == "failed"


@pytest.mark.parametrize(
    ("extra", "needed"), [("needy", "'calotype[needy]'"), ("other", "absent_package")]
)
async def test_a_missing_extra_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, needed: str
) -> None:
    (tmp_path / "needs_absent.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.BACKENDS, "needy", "needs_absent")
    monkeypatch.setitem(registry.EXTRAS, extra, "'calotype[needy]'")
    async with serving(tmp_path, _of("needy")) as server:
        status, kind, message = problem_of(await server.run("odd"))
    assert (status, kind) == (500, "config")
    assert message == f"test/odd needs absent_package: pip install {needed}"


async def test_a_wrong_catalog_found_late_answers_a_fixed_sentence(tmp_path: Path) -> None:
    async with serving(tmp_path, _of("nothing")) as server:
        status, kind, message = problem_of(await server.run("odd"))
    assert (status, kind) == (500, "config")
    assert message == "The model is not set up correctly; the server's log says why"


def _of(backend: str) -> ModelSpec:
    return ModelSpec(id="test/odd", alias="odd", backend=backend, revision="1")


async def test_a_bug_of_ours_answers_a_fixed_sentence(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("at /secret/file.py")

    monkeypatch.setattr("calotype.pipeline.Planner.plan", broken)
    status, kind, message = problem_of(await server.run())
    assert (status, kind) == (500, "internal")
    assert message == problems.INTERNAL
    assert "Traceback" in caplog.text
    assert "/secret/file.py" in caplog.text


async def test_a_loading_model_is_a_503_with_an_estimate(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.3), hold_s=0) as server:
        response = await server.run("slow")
        assert problem_of(response) == (503, "loading", "Model slow is currently loading")
        estimate = response.json()["estimated_time"]
        assert isinstance(estimate, float)
        assert estimate > 0
        assert response.headers["retry-after"] == str(max(1, math.ceil(estimate)))


async def test_a_full_queue_is_a_429_never_a_503(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.3), queue_size=1) as server:
        first = asyncio.create_task(server.run("slow", picture(seed=1)))
        await asyncio.sleep(0.1)
        response = await server.run("slow", picture(seed=2))
        status, kind, message = problem_of(response)
        assert (status, kind) == (429, "overloaded")
        assert message.startswith("busy")
        assert int(response.headers["retry-after"]) >= 1
        assert (await first).status_code == 200
        assert (await server.run("slow", picture(seed=2))).status_code == 200


async def test_a_draining_server_refuses_work_and_is_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        pass
    async with _client(server) as client:
        posted = await client.post("/models/echo", content=picture())
        assert problem_of(posted)[:2] == (503, "shutting_down")
        assert problem_of(await client.get("/ready"))[:2] == (503, "shutting_down")
        assert (await client.get("/health")).status_code == 200


def _client(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://test")


@pytest.mark.inside  # its end is part of it
async def test_work_that_the_drain_cuts_off_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.05, steps=20), drain_s=0) as server:
        client = _client(server)
        first = asyncio.create_task(client.post("/", content=picture(seed=1)))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(client.post("/", content=picture(9)))
        await asyncio.sleep(0.1)
    assert problem_of(await second)[:2] == (503, "shutting_down")
    first.cancel()
    await asyncio.wait([first])
    await client.aclose()


@pytest.mark.parametrize("model", ["nothing", "test/nothing", "a/b/c", "\u00e9", "x" * 999])
@pytest.mark.parametrize("prefix", ["/models", "/pipeline/image-to-image", "/hf-inference/models"])
async def test_an_unknown_model(server: Server, prefix: str, model: str) -> None:
    status, kind, message = problem_of(await server.client.post(f"{prefix}/{model}", content=b"x"))
    assert (status, kind) == (404, "unknown_model")
    assert message.startswith("Model ")
    assert message.endswith(" does not exist")
    if model.startswith("test"):
        assert message == "Model test/nothing does not exist"


@pytest.mark.parametrize(
    "path", ["/nothing", "/v2/models", "/models/echo/info/more", "/health/", "/models/%0D%0Ax"]
)
async def test_an_unknown_route(server: Server, path: str) -> None:
    status, kind, message = problem_of(await server.client.get(path))
    assert status == 404
    assert kind in {"not_found", "unknown_model"}
    assert message.endswith("does not exist")


@pytest.mark.parametrize("path", ["/models/", "/hf-inference/models/"])
async def test_a_path_that_names_no_model_runs_none(server: Server, path: str) -> None:
    assert problem_of(await server.client.post(path, content=picture()))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/models/echo", "GET, HEAD, POST"),
        ("DELETE", "/", "GET, HEAD, POST"),
        ("OPTIONS", "/", "GET, HEAD, POST"),
        ("POST", "/health", "GET, HEAD"),
        ("GET", "/pipeline/image-to-image/echo", "POST"),
    ],
)
async def test_a_wrong_method_names_the_right_ones(
    server: Server, method: str, path: str, allowed: str
) -> None:
    response = await server.client.request(method, path)
    assert problem_of(response)[:2] == (405, "method")
    assert response.headers["allow"] == allowed


def test_the_header_is_one_line_of_latin_1() -> None:
    response = problem(errors.BadImageError("caf\u00e9\r\nset-cookie: \u20ac \ud800" + "x" * 5000))
    line = response.headers["x-error-message"]
    assert line.startswith("caf? set-cookie: ? ?xxx")
    assert len(line) < 1100
    assert "\n" not in json.loads(bytes(response.body))["error"]


@pytest.mark.parametrize(
    ("retry_after_s", "sent"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (60, "60")]
)
def test_retry_after_is_rounded_up(retry_after_s: float, sent: str) -> None:
    response = problem(errors.QueueFullError("busy", retry_after_s=retry_after_s))
    assert response.headers["retry-after"] == sent


def test_a_503_always_says_when_to_come_back() -> None:
    assert problem(errors.ShuttingDownError("x")).headers["retry-after"] == "1"
    assert "retry-after" not in problem(errors.BadImageError("x")).headers


def test_what_fails_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    crash = errors.ModelCrashedError("detail")
    crash.__cause__ = RuntimeError("cause")
    with caplog.at_level(logging.ERROR):
        problem(crash)
    assert "ModelCrashedError: detail" in caplog.text
    assert "RuntimeError: cause" in caplog.text


async def test_a_failed_preload_does_not_end_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, fake("bad", fail="load"), ECHO, preload="bad") as server:
        await asyncio.sleep(0.2)
        assert (await server.client.get("/health")).status_code == 200
        assert (await server.client.get("/ready")).status_code == 503
        assert (await server.run("echo")).status_code == 200
    assert "preload failed: test/bad: told to fail at load" in caplog.text


async def test_health_does_not_wait_for_the_preload(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=1), preload="slow") as server:
        assert (await server.client.get("/health")).status_code == 200
        await asyncio.sleep(0.05)
        ready = await server.client.get("/ready")
        assert (ready.status_code, ready.json()["state"]) == (200, "loading")
