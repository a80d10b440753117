"""Whatever is sent, the answer is a picture or one of the documented errors."""

import asyncio
import json
import urllib.parse
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.server import DRAW, ECHO, STYLE, Server, picture, problem_of, serving, text
from calotype.api.problems import STATUS

PICTURE = picture(4)
INPUTS = text(PICTURE)
ERRORS = {int(status) for status in STATUS.values()} | {405}
HEADERS = ["accept", "authorization", "content-type", "content-length", "if-none-match"]
HEADERS += ["x-use-cache", "x-wait-for-model", "x-strict", "x-deadline-ms", "x-request-id"]
NAMES = ["inputs", "image", "parameters", "options", "use_cache", "wait_for_model", "invert"]
NAMES += ["strength", "style_image", "seed", "target_size", "width", "height", "output_format"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([INPUTS])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(st.text(max_size=5) | st.sampled_from(NAMES), JSON, max_size=6)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=5)
MODELS = st.sampled_from(["echo", "draw", "style", "test/echo"])
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Client = tuple[asyncio.Runner, Server]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on a loop of its own, for all the examples."""
    with asyncio.Runner() as runner:
        # A small picture size, for a valid request may ask for a large one.
        started = serving(
            tmp_path_factory.mktemp("wire"), ECHO, DRAW, STYLE, max_output_pixels=4096
        )
        yield runner, runner.run(started.__aenter__())
        runner.run(started.__aexit__(None, None, None))


def send(
    running: Client, content: bytes, model: str = "echo", headers: dict[str, bytes] | None = None
) -> httpx.Response:
    runner, server = running
    named = {name.encode(): value for name, value in (headers or {}).items()}
    response = runner.run(server.client.post(f"/models/{model}", content=content, headers=named))
    if response.status_code == 200:
        assert response.headers["content-type"] in {"image/png", "image/jpeg", "image/webp"}
        assert response.content
    elif response.status_code == 304:
        assert response.content == b""
    else:
        assert problem_of(response)[0] in ERRORS
        assert response.status_code != 500
    return response


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(running: Client, content: bytes) -> None:
    send(running, content)


@QUICK
@given(st.sampled_from([b"{", b" {", b"\xef\xbb\xbf{"]), st.binary(max_size=100))
def test_any_bytes_after_a_brace(running: Client, lead: bytes, rest: bytes) -> None:
    send(running, lead + rest)


@QUICK
@given(JSON | DOCUMENTS, MODELS)
def test_any_json(running: Client, document: object, model: str) -> None:
    send(running, json.dumps(document).encode(), model)


@QUICK
@given(PARAMETERS, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3), MODELS, st.booleans())
def test_any_parameters(
    running: Client,
    parameters: dict[str, object],
    options: dict[str, object],
    model: str,
    strict: bool,
) -> None:
    document = {"inputs": INPUTS, "parameters": parameters, "options": options}
    headers = {"x-strict": b"1" if strict else b"0"}
    send(running, json.dumps(document).encode(), model, headers)


@QUICK
@given(st.data())
def test_a_valid_request_with_some_bytes_changed(running: Client, data: st.DataObject) -> None:
    parameters = {"invert": True, "strength": 0.5, "target_size": {"width": 5, "height": 6}}
    valid = [PICTURE, json.dumps({"inputs": INPUTS, "parameters": parameters}).encode()]
    body = bytearray(data.draw(st.sampled_from(valid)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        body = body or bytearray(b"x")
    send(running, bytes(body))


@QUICK
@given(st.dictionaries(st.sampled_from(HEADERS), st.binary(max_size=40), max_size=5))
def test_any_header_values(running: Client, headers: dict[str, bytes]) -> None:
    response = send(running, PICTURE, headers=headers)
    assert len(response.headers["x-request-id"]) <= 128


@QUICK
@given(st.binary(max_size=20), st.sampled_from(["GET", "POST"]))
def test_any_path(running: Client, path: bytes, method: str) -> None:
    runner, server = running
    url = f"{server.client.base_url}/{urllib.parse.quote(path)}"
    response = runner.run(server.client.request(method, url, content=PICTURE))
    if response.status_code != 200:
        assert problem_of(response)[0] in {404, 405}
