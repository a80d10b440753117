import io
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image

from api.server import ECHO, Server, picture, pixels_of, problem_of, serving, text
from calotype.api.body import THREAD_FROM_BYTES


@pytest.mark.parametrize(
    "content_type",
    [None, "image/png", "image/jpeg", "application/json", "application/x-www-form-urlencoded", "x"],
)
async def test_raw_bytes_run_whatever_their_content_type(
    server: Server, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await server.run(headers=headers)
    assert response.status_code == 200
    assert np.array_equal(pixels_of(response.content), pixels_of(picture()))


@pytest.mark.parametrize("content_type", ["application/json", "image/png", "text/plain", ""])
@pytest.mark.parametrize("lead", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
async def test_a_body_that_begins_with_a_brace_is_json(
    server: Server, content_type: str, lead: bytes
) -> None:
    body = lead + json.dumps({"inputs": text(picture()), "parameters": {"invert": True}}).encode()
    headers = {"content-type": content_type}
    response = await server.client.post("/models/echo", content=body, headers=headers)
    assert response.status_code == 200
    assert np.array_equal(pixels_of(response.content), 255 - pixels_of(picture()))


@pytest.mark.parametrize("field", ["inputs", "image"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda t: t,
        lambda t: t.rstrip("="),
        lambda t: t.replace("+", "-").replace("/", "_"),
        lambda t: f"data:image/png;base64,{t}",
        lambda t: "\n".join(t[i : i + 60] for i in range(0, len(t), 60)),
    ],
    ids=["plain", "unpadded", "url-safe", "data-uri", "lines"],
)
async def test_base64_in_all_its_spellings(server: Server, field: str, spell: object) -> None:
    assert callable(spell)
    response = await server.send({field: spell(text(picture()))})
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize("parameters", [{}, None])
async def test_parameters_may_be_empty(server: Server, parameters: object) -> None:
    response = await server.send({"inputs": text(picture()), "parameters": parameters})
    assert response.status_code == 200


async def test_both_names_of_the_picture_must_agree(server: Server) -> None:
    other = text(picture(seed=1))
    good = await server.send({"inputs": other, "image": other})
    assert good.status_code == 200
    status, kind, message = problem_of(
        await server.send({"inputs": other, "image": text(picture())})
    )
    assert (status, kind) == (400, "malformed")
    assert "inputs and image" in message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no image"),
        (b"{}", "no image"),
        (b'{"inputs": null}', "no image"),
        (b'{"parameters": {}}', "no image"),
        (b"{", "not valid JSON"),
        (b'{"inputs": "aGk="', "not valid JSON"),
        (b'{"inputs": "\xff\xfe"}', "UTF-8"),
        (b'{"inputs": ' + b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"inputs": ' + b"1" * 5000 + b"}", "number is too long"),
        (b'{"inputs": 5}', "inputs must be a picture, base64-encoded"),
        (b'{"inputs": ["aGk="]}', "inputs must be a picture, base64-encoded"),
        (b'{"image": {}}', "image must be a picture, base64-encoded"),
        (b'{"inputs": "?!"}', "inputs must be a picture, base64-encoded"),
        (b'{"inputs": ""}', "inputs is empty"),
        (b'{"inputs": "\\ud800"}', "inputs must be a picture, base64-encoded"),
        (b'{"inputs": "https://example.org/cat.png"}', "inputs is a URL; URLs are not fetched"),
        (b'{"image": " file:///etc/passwd"}', "image is a URL; URLs are not fetched"),
    ],
)
async def test_what_is_no_request_is_a_400_that_says_so(
    server: Server, body: bytes, says: str
) -> None:
    status, kind, message = problem_of(await server.client.post("/models/echo", content=body))
    assert (status, kind) == (400, "malformed")
    assert says in message


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"   ",
        b"[1, 2]",
        b'"aGVsbG8="',
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"\x1f\x8b\x08",
        picture()[:20],
        b"\xff\xd8\xff",
    ],
)
async def test_what_is_no_picture_is_a_400_with_the_text_clients_match(
    server: Server, body: bytes
) -> None:
    status, kind, message = problem_of(await server.client.post("/models/echo", content=body))
    assert (status, kind) == (400, "image")
    assert message.startswith("cannot identify image file")


async def test_the_same_for_a_picture_inside_json(server: Server) -> None:
    status, kind, message = problem_of(await server.send({"inputs": text(b"hello")}))
    assert (status, kind) == (400, "image")
    assert message.startswith("cannot identify image file")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
async def test_every_format_is_read(server: Server, file_format: str) -> None:
    response = await server.run(upload=picture(32, file_format))
    assert response.status_code == 200
    own = {"JPEG": "image/jpeg", "WEBP": "image/webp"}
    assert response.headers["content-type"] == own.get(file_format, "image/png")


@pytest.mark.parametrize("name", ["parameters", "options"])
@pytest.mark.parametrize("value", [[], "x", 1, True, [["a", 1]]])
async def test_parameters_and_options_must_be_objects(
    server: Server, name: str, value: object
) -> None:
    status, kind, message = problem_of(await server.send({"inputs": text(picture()), name: value}))
    assert (status, kind) == (422, "validation")
    assert message.startswith(f"{name} must be an object, got ")


async def test_unknown_fields_are_warned_of(server: Server) -> None:
    body = {"inputs": text(picture()), "prompt": "x", "wait": 1, "options": {"use_gpu": True}}
    response = await server.send(body)
    assert response.status_code == 200
    prompt, wait, gpu = response.headers.get_list("x-hf-warning")
    assert prompt == "request; prompt was ignored: a parameter, whose place is inside 'parameters'"
    assert wait.startswith("request; wait was ignored: not a field of a request")
    assert gpu.startswith("request; options.use_gpu was ignored: not an option of Calotype")


async def test_a_thousand_unknown_fields_are_few_warnings(server: Server) -> None:
    body: dict[str, object] = {f"x{i}": 1 for i in range(1000)}
    response = await server.send({"inputs": text(picture()), **body})
    warnings = response.headers.get_list("x-hf-warning")
    assert len(warnings) == 21
    assert warnings[-1] == "request; and 980 more were ignored"


async def test_strict_refuses_unknown_fields(server: Server) -> None:
    response = await server.send({"inputs": text(picture()), "\u20acuro": 1}, x_strict="yes")
    status, kind, message = problem_of(response)
    assert (status, kind) == (422, "validation")
    assert message.startswith("?uro is not a field of a request")


async def test_options_of_old_clients_are_honoured(server: Server) -> None:
    body: dict[str, object] = {"inputs": text(picture())}
    fresh = {**body, "options": {"use_cache": False, "wait_for_model": True}}
    assert (await server.send(body)).headers["x-cache"] == "miss"
    assert (await server.send(body)).headers["x-cache"] == "hit"
    assert (await server.send(fresh)).headers["x-cache"] == "bypass"
    # A header is the newer spelling, and beats them.
    assert (await server.send(fresh, x_use_cache="1")).headers["x-cache"] == "hit"


async def test_options_are_booleans(server: Server) -> None:
    response = await server.send({"inputs": text(picture()), "options": {"use_cache": "maybe"}})
    assert problem_of(response) == (
        422,
        "validation",
        'options.use_cache must be true or false, got "maybe"',
    )


async def test_large_json_is_read_on_a_thread(server: Server) -> None:
    upload = picture(400)
    assert len(upload) > THREAD_FROM_BYTES
    response = await server.run(upload=upload, invert=True)
    assert np.array_equal(pixels_of(response.content), 255 - pixels_of(upload))


async def test_a_picture_as_parameter(server: Server) -> None:
    good = await server.run("style", style_image=text(picture(seed=3)))
    assert good.status_code == 200
    assert "sha256:" in good.headers["x-parameters-applied"]
    for value, expected in (("?!", 400), ("http://x/y.png", 400), (5, 422)):
        status, _, message = problem_of(await server.run("style", style_image=value))
        assert status == expected
        assert message.startswith("style_image")
    status, _, message = problem_of(await server.run("style", style_image=text(b"hello")))
    assert status == 400
    assert message.startswith("cannot identify image file")


@pytest.fixture
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("small")
    async with serving(folder, ECHO, max_upload_bytes=2000, max_pixels=1000) as started:
        yield started


async def chunks(count: int, sent: list[int]) -> AsyncIterator[bytes]:
    for number in range(count):
        sent.append(number)
        yield b"x" * 500


@pytest.mark.inside  # clients don't look for an early answer
async def test_a_body_that_says_it_is_too_long_is_not_read(small: Server) -> None:
    sent: list[int] = []
    response = await small.client.post(
        "/models/echo", content=chunks(6, sent), headers={"content-length": "3000"}
    )
    assert problem_of(response) == (413, "too_large", "the body must have at most 2000 bytes")
    assert sent == []


@pytest.mark.inside  # clients don't look for an early answer
async def test_a_body_that_says_nothing_is_read_up_to_the_limit(small: Server) -> None:
    sent: list[int] = []
    response = await small.client.post("/models/echo", content=chunks(100, sent))
    assert problem_of(response) == (413, "too_large", "the body must have at most 2000 bytes")
    assert len(sent) == 5


async def test_too_many_pixels_are_refused_by_the_header_of_the_file(small: Server) -> None:
    flat = _flat(100)
    assert len(flat) < 2000
    status, kind, _ = problem_of(await small.client.post("/models/echo", content=flat))
    assert (status, kind) == (413, "too_large")


def _flat(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()
