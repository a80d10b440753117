"""Errors as OpenAI's clients read them, access, models, and forms of every kind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.forms import MODELS, URL, edit, error_of, form_of, made
from api.server import Server, fake, picture, problem_of, serving, text
from calotype.api import multipart
from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore

FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path, *MODELS) as started:
        yield started


def bearer(folder: Path, name: str, **options: Any) -> dict[str, str]:  # noqa: ANN401
    store = TokenStore(folder / "data" / TOKENS_FILE)
    return {"authorization": f"Bearer {store.create(name, **options)}"}


# Who may.


@pytest.mark.inside  # clients don't look for an early answer
async def test_no_token(tmp_path: Path) -> None:
    bearer(tmp_path, "a")
    async with serving(tmp_path) as server:
        read = []

        async def body() -> AsyncIterator[bytes]:
            read.append(1)
            yield b""

        posted = await server.client.post(URL, content=body())
        assert read == [], "the body of a stranger is not read"
        for response in (posted, await server.client.get("/v1/models")):
            assert error_of(response)[:4] == (401, "authentication_error", None, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"


async def test_a_token_for_other_models(tmp_path: Path) -> None:
    headers = bearer(tmp_path, "a", models=["echo"])
    async with serving(tmp_path, *MODELS) as server:
        assert made(await edit(server, headers=headers))
        for model in ("draw", "echo+draw"):
            refused = await edit(server, model=model, headers=headers)
            assert error_of(refused)[:4] == (403, "permission_error", None, "forbidden")
        listed = (await server.client.get("/v1/models", headers=headers)).json()
        assert [one["id"] for one in listed["data"]] == ["echo"]
        hidden = await server.client.get("/v1/models/draw", headers=headers)
        assert error_of(hidden)[:2] == (403, "permission_error")


async def test_several_pictures_are_one_request_to_the_rate(tmp_path: Path) -> None:
    headers = bearer(tmp_path, "a", rate_per_minute=2)
    async with serving(tmp_path, *MODELS) as server:
        first = await edit(server, model="draw", n="5", headers=headers)
        assert first.headers["ratelimit"].startswith('"default";r=1;')
        await edit(server, headers=headers)
        spent = await edit(server, headers=headers)
        assert error_of(spent)[:4] == (429, "rate_limit_error", None, "rate_limit_exceeded")
        assert int(spent.headers["retry-after"]) >= 1
        assert "x-should-retry" not in spent.headers
        assert spent.headers["ratelimit"].startswith('"default";r=0;')


# Models.


async def test_models(server: Server) -> None:
    listed = (await server.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert {one["id"] for one in listed["data"]} == {spec.alias for spec in MODELS}
    expected = {"id": "echo", "object": "model", "created": 0, "owned_by": "test"}
    assert expected in listed["data"]
    for name in ("echo", "test/echo", "test%2Fecho"):
        assert (await server.client.get(f"/v1/models/{name}")).json() == expected
    chain = (await server.client.get("/v1/models/echo+up")).json()
    assert (chain["id"], chain["object"]) == ("echo+up", "model")


@pytest.mark.parametrize("model", ["gpt-image-1", "echo+nothing"])
async def test_an_unknown_model(server: Server, model: str) -> None:
    for response in (
        await edit(server, model=model),
        await server.client.get(f"/v1/models/{model}"),
    ):
        status, kind, param, code, message = error_of(response)
        assert (status, kind, param) == (404, "invalid_request_error", None)
        assert code == "model_not_found"
        assert message.endswith("does not exist; GET /v1/models lists the models")


# Errors of every status.


async def test_routes_that_are_not_there(server: Server) -> None:
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/images/generations"):
        found = error_of(await server.client.post(path))
        assert found[:4] == (404, "invalid_request_error", None, "not_found")
    response = await server.client.get(URL)
    assert error_of(response)[:4] == (405, "invalid_request_error", None, "method")
    assert response.headers["allow"] == "POST"
    assert problem_of(await server.client.get("/v1x"))[:2] == (404, "not_found")


async def test_bodies_that_are_too_long(tmp_path: Path) -> None:
    async with serving(tmp_path, max_upload_bytes=2000) as server:
        response = await edit(server, picture(60))
        assert error_of(response)[:4] == (413, "invalid_request_error", None, "too_large")


async def test_a_model_that_fails(server: Server) -> None:
    response = await edit(server, model="crash")
    status, kind, _, code, message = error_of(response)
    assert (status, kind, code) == (500, "server_error", "backend")
    assert message == "The model failed; the server's log says why"
    assert response.headers["x-should-retry"] == "false"


async def test_an_error_that_nobody_thought_of(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("at /secret/path")

    monkeypatch.setattr("calotype.api.edits.about_edit", broken)
    assert error_of(await edit(server))[:4] == (500, "server_error", None, "internal")


async def test_a_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.02, steps=100_000)) as server:
        response = await edit(server, headers={"x-deadline-ms": "100"})
        assert error_of(response)[:4] == (504, "server_error", None, "timeout")
        assert response.headers["x-should-retry"] == "false"
        wrong = await edit(server, headers={"x-deadline-ms": "soon"})
        assert error_of(wrong)[:3] == (422, "invalid_request_error", None)


async def test_a_server_that_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        pass
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post(URL, content=b"")
    assert error_of(response)[:4] == (503, "server_error", None, "shutting_down")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_model_is_waited_for_unless_told_otherwise(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("late", load_s=0.5), hold_s=0.05) as server:
        told = await edit(server, headers={"x-wait-for-model": "false"})
        status, kind, _, code, _ = error_of(told)
        assert (status, kind, code) == (503, "server_error", "loading")
        assert told.json()["error"]["estimated_time"] > 0
        assert made(await edit(server))


async def test_the_page_for_machines(server: Server) -> None:
    page = (await server.client.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(page).validate()
    posted = page["paths"][URL]["post"]
    (body,) = posted["requestBody"]["content"].items()
    assert body == ("multipart/form-data", {"schema": {"$ref": "#/components/schemas/OpenAIForm"}})
    answered = posted["responses"]["200"]["content"]["application/json"]["schema"]
    assert answered == {"$ref": "#/components/schemas/OpenAIPictures"}
    described = page["components"]["schemas"]["OpenAIPictures"]
    assert set((await edit(server, model="draw")).json()) == set(described["properties"])
    failing = [
        (path, answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2])
        for path, methods in page["paths"].items()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if status[0] in "45"
    ]
    for path, schema in failing:
        assert schema == ("OpenAIError" if path.startswith("/v1/") else "Error")


# Forms.


async def test_json_is_told_what_to_send(server: Server) -> None:
    response = await server.client.post(URL, json={"image": text(picture()), "prompt": "x"})
    assert error_of(response) == (
        400,
        "invalid_request_error",
        None,
        "malformed",
        "send a form, multipart/form-data, with the picture as the file 'image', "
        'got content-type "application/json"',
    )


async def test_a_form_without_a_picture(server: Server) -> None:
    response = await server.client.post(URL, content=form_of(("n", b"1", False)), headers=FORM)
    assert error_of(response)[4] == ("no image: send the picture as the file 'image' of the form")
    for empty in (form_of(("image", b"", True)), form_of(("image", b"", False))):
        response = await server.client.post(URL, content=empty, headers=FORM)
        assert error_of(response)[4].startswith("image is empty")


async def test_a_picture_as_base64(server: Server) -> None:
    body = form_of(("image", text(picture()).encode(), False))
    assert made(await server.client.post(URL, content=body, headers=FORM))


@pytest.mark.parametrize("length", range(0, 230, 7))
async def test_a_form_that_is_cut_off(server: Server, length: int) -> None:
    body = form_of(("image", picture(), True), ("n", b"1", False))
    response = await server.client.post(URL, content=body[: len(body) - 5 - length], headers=FORM)
    assert error_of(response)[:4] == (400, "invalid_request_error", None, "malformed")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=c",
        f"multipart/form-data; boundary={'b' * 300}",
        "multipart/form-data; boundary=b; charset=undefined",
        "multipart/form-data; boundary=b; charset=\0",
        "application/x-www-form-urlencoded",
        "",
    ],
)
async def test_a_form_that_says_something_odd(server: Server, content_type: str) -> None:
    body = form_of(("image", picture(), True), ("n", b"\xff", False))
    response = await server.client.post(URL, content=body, headers={"content-type": content_type})
    assert error_of(response)[:4] == (400, "invalid_request_error", None, "malformed")


@pytest.mark.parametrize("is_file", [True, False])
async def test_a_form_of_too_many_parts(server: Server, is_file: bool) -> None:
    most = multipart.MAX_FILES if is_file else multipart.MAX_FIELDS
    parts = [(f"x{number}", b"1", is_file) for number in range(most + 1)]
    response = await server.client.post(URL, content=form_of(*parts), headers=FORM)
    assert error_of(response)[0] == 400
    assert "Too many" in error_of(response)[4]


async def test_nothing_of_a_form_touches_the_disk(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    upload = picture(900)  # above what starlette keeps in memory of itself
    assert len(upload) > 2 * 1024 * 1024
    assert made(await edit(server, upload))


async def test_an_image_that_is_none(server: Server) -> None:
    found = error_of(await edit(server, b"hello"))
    assert found[:4] == (400, "invalid_request_error", None, "image")


# Any form at all.

NAMES = ["image", "image[]", "mask", "model", "n", "size", "seed", "stream", "quality", "prompt"]
NAMES += [
    "response_format",
    "output_format",
    "style_image",
    "target_size[width]",
    "up",
    "up.invert",
]
NAMES += ["up[invert]", "target_size", "loras[]", "svg[a]", "invert", "strength", "style", ""]
VALUES = [
    "1",
    "2",
    "png",
    "auto",
    "4x4",
    "true",
    "{",
    '{"invert": true}',
    "null",
    "echo",
    "up+echo",
]
QUICK = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PART = st.tuples(
    st.sampled_from(NAMES) | st.text(max_size=8).map(lambda name: name.replace('"', "")),
    st.sampled_from([*map(str.encode, VALUES), picture(4), text(picture(4)).encode()])
    | st.binary(max_size=20),
    st.booleans(),
)
Client = tuple[asyncio.Runner, Server]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on a loop of its own, for all the examples."""
    with asyncio.Runner() as runner:
        started = serving(tmp_path_factory.mktemp("forms"), *MODELS, max_output_pixels=4096)
        yield runner, runner.run(started.__aenter__())
        runner.run(started.__aexit__(None, None, None))


def send(running: Client, body: bytes, content_type: bytes = FORM["content-type"].encode()) -> int:
    runner, server = running
    headers = {b"content-type": content_type}
    response: httpx.Response = runner.run(server.client.post(URL, content=body, headers=headers))
    if response.status_code == 200:
        made(response) if "b64_json" in response.text else response.json()
    else:
        assert 400 <= error_of(response)[0] < 500, response.text
    return response.status_code


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(running: Client, body: bytes) -> None:
    assert send(running, body) == 400


@QUICK
@given(st.binary(max_size=60))
def test_any_content_type(running: Client, content_type: bytes) -> None:
    send(running, form_of(("image", picture(4), True)), content_type)


@QUICK
@given(st.lists(PART, max_size=6))
def test_any_fields(running: Client, parts: list[tuple[str, bytes, bool]]) -> None:
    send(running, form_of(("image", picture(4), True), *parts))


@QUICK
@given(st.data())
def test_a_valid_form_with_some_bytes_changed(running: Client, data: st.DataObject) -> None:
    parts = (("image", picture(4), True), ("model", b"paint", False), ("seed", b"1", False))
    body = bytearray(form_of(*parts, ("n", b"2", False)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        body = body or bytearray(b"x")
    send(running, bytes(body))
