"""The OpenAI façade in process: forms, masks, several pictures and their seeds."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.forms import (
    MODELS,
    REPAINT,
    URL,
    Files,
    edit,
    error_of,
    file,
    form_of,
    holes,
    made,
    photo,
)
from api.server import (
    SEED,
    SOON_S,
    Line,
    Server,
    fake,
    jobs,
    picture,
    pixels_of,
    serving,
    text,
    until,
)
from calotype.api import openai
from calotype.domain.model import ParamSpec

Fields = dict[str, Any]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path, *MODELS, max_output_pixels=9000) as started:
        yield started


# Pictures.


async def test_a_picture_comes_back_in_json(server: Server) -> None:
    response = await edit(server, model="echo", invert="true")
    body = response.json()
    assert np.array_equal(pixels_of(made(response)[0]), 255 - pixels_of(picture()))
    assert body["size"] == "8x8"
    assert body["output_format"] == "png"
    assert body["model"] == "echo"
    assert body["warnings"] == []
    assert abs(body["created"] - 1_764_000_000) < 10**9
    assert set(body["data"][0]) == {"b64_json"}
    assert response.headers["x-model-id"] == "test/echo"
    assert response.headers["x-cache"] == "miss"
    assert response.headers["x-request-id"]
    assert "etag" not in response.headers
    assert int(response.headers["content-length"]) == len(response.content)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_the_bytes_are_those_of_the_other_api(server: Server, output_format: str) -> None:
    upload = picture(24)
    first = await edit(server, upload, model="up", invert="true", output_format=output_format)
    same = await server.run("up", upload, invert=True, output_format=output_format)
    assert made(first) == [same.content]
    assert first.headers["x-cache"] == "miss"
    assert same.headers["x-cache"] == "hit"
    assert first.json()["size"] == "48x48"


async def test_a_picture_computed_for_the_other_api_is_not_computed_again(server: Server) -> None:
    upload = picture(9)
    await server.run("echo", upload, output_format="png")
    assert (await edit(server, upload)).headers["x-cache"] == "hit"
    anew = await edit(server, upload, headers={"x-use-cache": "false"})
    assert anew.headers["x-cache"] == "bypass"


async def test_a_jpeg_is_answered_as_png(server: Server) -> None:
    response = await edit(server, picture(8, "JPEG"), headers={"accept": "image/gif"})
    assert made(response)[0].startswith(b"\x89PNG")


async def test_a_large_picture_is_written_in_pieces(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "PIECE_BYTES", 30)
    upload = picture(40)
    same = await server.run("echo", upload, output_format="png")
    assert made(await edit(server, upload, n="2")) == [same.content] * 2


async def test_urls_are_data_uris(server: Server) -> None:
    response = await edit(server, response_format="url", output_format="webp")
    (entry,) = response.json()["data"]
    head, _, tail = entry["url"].partition(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(tail)[8:12] == b"WEBP"


async def test_the_default_model_answers_where_none_is_named(server: Server) -> None:
    for model in (Fields(), Fields(model=""), Fields(model="test/echo")):
        assert (await edit(server, **model)).headers["x-model-id"] == "test/echo"


async def test_a_chain(server: Server) -> None:
    stages: Fields = {"up__invert": "true", "echo__invert": "true"}
    response = await edit(server, model="up+echo", **stages)
    expected = pixels_of(picture()).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(pixels_of(made(response)[0]), expected)
    assert response.json()["model"] == "up+echo"
    for form in (Fields(**{"up[invert]": "true"}), Fields(up='{"invert": true}')):
        once = await edit(server, model="up+echo", **form)
        assert np.array_equal(pixels_of(made(once)[0]), 255 - expected)


# Parameters.


@pytest.mark.parametrize("size", ["20x10", " 20X10 "])
async def test_size_is_the_exact_size(server: Server, size: str) -> None:
    response = await edit(server, size=size)
    assert response.json()["size"] == "20x10"
    assert pixels_of(made(response)[0]).shape == (10, 20, 3)


async def test_fields_that_are_left_empty_count_as_not_given(server: Server) -> None:
    empty: Fields = dict.fromkeys(
        ("size", "n", "strength", "quality", "response_format", "stream"), ""
    )
    response = await edit(server, model="echo", output_format="", **empty)
    assert made(response)
    assert response.json()["warnings"] == []
    assert (await edit(server, size="auto")).json()["size"] == "8x8"


async def test_an_object_as_openai_s_clients_write_it(server: Server) -> None:
    fields: Fields = {"target_size[width]": "20", "target_size[height]": "10"}
    assert (await edit(server, **fields)).json()["size"] == "20x10"


@pytest.mark.parametrize(
    ("model", "fields", "expected", "message"),
    [
        ("echo", {"size": "big"}, (422, "size"), 'size must be WxH such as 800x600, got "big"'),
        ("echo", {"size": "0x5"}, (422, "target_size.width"), "target_size.width must be in"),
        ("echo", {"size": "500x500"}, (413, None), "target_size must have at most 9000 pixels"),
        ("echo", {"size": "4x4", "target_size": "4x4"}, (400, None), "the form has target_size"),
        ("echo", {"n": "0"}, (422, "n"), "n must be in [1, 10], got 0"),
        ("echo", {"n": "11"}, (422, "n"), "n must be in [1, 10], got 11"),
        ("echo", {"n": "two"}, (422, "n"), 'n must be an integer, got "two"'),
        ("echo", {"n": "1.5"}, (422, "n"), "n must be an integer, got 1.5"),
        ("echo", {"n": ["1", "2"]}, (400, None), "the form has n twice"),
        ("echo", {"strength": "7"}, (422, "strength"), "strength must be in [0, 1], got 7"),
        ("echo", {"invert": "maybe"}, (422, "invert"), 'invert must be true or false, got "maybe"'),
        ("echo", {"output_format": "gif"}, (422, "output_format"), "output_format must be one of"),
        ("echo", {"response_format": "x"}, (422, "response_format"), "response_format must be one"),
        ("draw", {"seed": "x"}, (422, "seed"), 'seed must be an integer, got "x"'),
        ("draw", {"seed": "x", "n": "2"}, (422, "seed"), 'seed must be an integer, got "x"'),
        ("draw", {"seed": "-1", "n": "2"}, (422, "seed"), "seed must be in"),
        ("echo", {"stream": "true"}, (400, "stream"), "stream is not supported"),
        ("echo", {"stream": "perhaps"}, (422, "stream"), "stream must be true or false"),
        (
            "style",
            {"style_image": "https://x.y/a.png"},
            (400, "style_image"),
            "style_image is a URL",
        ),
        ("style", {"style_image": "@@"}, (400, "style_image"), "style_image must be a picture"),
        ("up+echo", {"up.invert": "9"}, (422, "up.invert"), "up.invert must be true or false"),
        ("up+echo", {"up[invert]": ["1", "2"]}, (400, None), "the form has up twice"),
    ],
)
async def test_what_is_wrong_is_named(
    server: Server,
    model: str,
    fields: dict[str, Any],
    expected: tuple[int, str | None],
    message: str,
) -> None:
    status, kind, param, _, told = error_of(await edit(server, model=model, **fields))
    assert (status, param) == expected
    assert kind == "invalid_request_error"
    assert told.startswith(message)


async def test_openai_s_own_fields_are_reported(server: Server) -> None:
    fields: Fields = {
        "quality": "high",
        "background": "auto",
        "user": "me",
        "svg[reasoning]": "low",
    }
    response = await edit(server, partial_images="2", **fields)
    told = [
        f"request; {name} was ignored: OpenAI's models alone have it"
        for name in ("partial_images", "quality", "svg")
    ]
    assert response.json()["warnings"] == told
    assert response.headers.get_list("x-hf-warning") == told
    strict = await edit(server, quality="high", headers={"x-strict": "true"})
    assert error_of(strict)[:3] == (422, "invalid_request_error", "quality")


async def test_a_model_may_have_a_parameter_of_openai_s_name(tmp_path: Path) -> None:
    quality = ParamSpec(name="quality", type="integer", help="", minimum=1, maximum=3)
    async with serving(tmp_path, fake("fine", quality)) as server:
        assert (await edit(server, quality="2")).json()["warnings"] == []
        assert error_of(await edit(server, quality="high"))[2] == "quality"


async def test_unused_parameters_are_reported_as_ever(server: Server) -> None:
    response = await edit(server, prompt="make it snow", sed="1")
    assert response.json()["warnings"] == [
        "parameters; prompt was ignored: echo takes no prompt",
        "parameters; sed was ignored: not a parameter of Calotype",
    ]
    assert "x-hf-warning" in response.headers
    strict = await edit(server, prompt="x", headers={"x-strict": "1"})
    assert strict.status_code == 422


# Several pictures in.


@pytest.mark.parametrize("field", ["image[]", "image", "image[0]"])
async def test_further_pictures_are_image_parameters_in_order(server: Server, field: str) -> None:
    images = [picture(seed=number) for number in range(3)]
    sent: Files = [(field, ("a.png", image)) for image in images]
    response = await server.client.post(URL, files=sent, data={"model": "style"})
    named = await server.run(
        "style", images[0], style_image=text(images[1]), guide=text(images[2]), output_format="png"
    )
    assert made(response) == [named.content]
    assert named.headers["x-cache"] == "hit"


async def test_image_parameters_by_name(server: Server) -> None:
    images = [picture(seed=number) for number in range(3)]
    by_file = await edit(server, images[0], model="style", files={"style_image": images[1]})
    by_text = await edit(server, images[0], model="style", style_image=text(images[1]))
    assert made(by_file) == made(by_text)
    assert by_text.headers["x-cache"] == "hit"
    both = await edit(server, images[0], images[2], model="style", files={"style_image": images[1]})
    named = await server.run(
        "style", images[0], style_image=text(images[1]), guide=text(images[2]), output_format="png"
    )
    assert named.headers["x-cache"] == "hit"
    assert made(both) == [named.content]


async def test_too_many_pictures_are_refused(server: Server) -> None:
    response = await edit(server, *[picture()] * 4, model="style")
    assert error_of(response)[4] == (
        "image is there 4 times; style takes 3: the picture itself, then style_image, then guide"
    )
    response = await edit(server, *[picture()] * 2, model="repaint")
    assert error_of(response)[0] == 400


# Masks.


async def test_what_is_transparent_in_a_mask_is_repainted(server: Server) -> None:
    pixels, mask = photo(), holes()
    response = await edit(
        server, file(pixels), files={"mask": file(mask)}, model="repaint", invert="true"
    )
    inside = mask[:, :, 3:] == 0
    found = pixels_of(made(response)[0])
    assert np.array_equal(found, np.where(inside, 255 - pixels, pixels))
    assert response.headers["x-unchanged-pixels"] == "0.9375"


async def test_a_mask_is_the_white_one_of_the_other_api(server: Server) -> None:
    white = np.where(holes()[:, :, 3] < 128, 255, 0).astype(np.uint8)
    upload = file(photo())
    ours = await server.run(
        "repaint", upload, mask_image=text(file(white)), invert=True, output_format="png"
    )
    sent = {"mask_image": file(white)}
    by_name = await edit(server, upload, files=sent, model="repaint", invert="true")
    by_mask = await edit(
        server, upload, files={"mask": file(holes())}, model="repaint", invert="true"
    )
    assert made(by_name) == made(by_mask) == [ours.content]


async def test_half_transparent_counts_from_127_down(server: Server) -> None:
    pixels, mask = photo(1, 4), np.full((1, 4, 4), 255, np.uint8)
    mask[0, :, 3] = (0, 127, 128, 255)
    response = await edit(
        server, file(pixels), files={"mask": file(mask)}, model="repaint", invert="true"
    )
    changed = (pixels_of(made(response)[0]) != pixels).any(2)[0]
    assert changed.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("mask", "status", "message"),
    [
        (file(photo()), 422, "mask must have an alpha channel"),
        (file(photo(), "JPEG"), 422, "mask must have an alpha channel"),
        (file(holes(30, 60)), 422, "mask_image must be of the picture's size 60x40, got 60x30"),
        (b"nothing", 400, "cannot identify image file"),
        (b"", 400, "mask is empty; it must be a picture"),
        (file(np.zeros((200, 200, 4), np.uint8)), 413, "image has 40000 pixels (200x200)"),
    ],
)
async def test_what_is_wrong_with_a_mask_is_said(
    tmp_path: Path, mask: bytes, status: int, message: str
) -> None:
    async with serving(tmp_path, REPAINT, max_pixels=9000) as server:
        response = await edit(server, file(photo()), files={"mask": mask})
        found = error_of(response)
        assert found[0] == status
        assert found[4].startswith(message)


async def test_a_model_without_masks_says_so(server: Server) -> None:
    response = await edit(server, files={"mask": file(holes(8, 8))}, model="up")
    assert response.json()["warnings"] == [
        "parameters; mask_image was ignored: up takes no mask image"
    ]


async def test_one_mask_is_enough(server: Server) -> None:
    sent = {"mask": file(holes()), "mask_image": file(holes())}
    response = await edit(server, file(photo()), files=sent, model="repaint")
    assert error_of(response)[4] == "send one mask: mask or mask_image"


# Several pictures out.


def seeds(response: httpx.Response) -> list[int]:
    return [one["seed"] for one in response.json()["data"]]


async def test_seeds_count_up(server: Server) -> None:
    response = await edit(server, model="paint", n="3", seed="7", prompt="x")
    assert len(made(response)) == 3
    assert seeds(response) == [7, 8, 9]
    assert "x-seed" not in response.headers
    third = await server.run("paint", picture(), seed=9, prompt="x", output_format="png")
    assert third.headers["x-cache"] == "hit"


async def test_the_seed_after_the_last_is_the_first(server: Server) -> None:
    response = await edit(server, model="paint", n="2", seed=str(2**63 - 1), prompt="x")
    assert seeds(response) == [2**63 - 1, 0]
    response = await edit(server, model="small-seed", n="3", seed="12.0")
    assert seeds(response) == [12, 10, 11]
    response = await edit(server, model="small-seed", n="3")
    assert sorted(seeds(response)) == [10, 11, 12]


async def test_drawn_seeds_are_fresh_and_distinct(server: Server) -> None:
    responses = [await edit(server, model="draw", n="5") for _ in range(2)]
    found = [seed for response in responses for seed in seeds(response)]
    assert len(set(found)) == 10
    assert all(0 <= seed < 2**63 for seed in found)


async def test_one_picture_without_a_seed_is_cached_as_on_the_other_api(server: Server) -> None:
    first = await server.run("draw", picture(), output_format="png")
    response = await edit(server, model="draw")
    assert response.headers["x-cache"] == "hit"
    assert seeds(response) == [int(first.headers["x-seed"])]
    assert response.headers["x-seed"] == first.headers["x-seed"]


async def test_seeds_of_stages(server: Server) -> None:
    own: Fields = {"draw.seed": "3", "n": "2"}
    response = await edit(server, model="draw+paint", prompt="x", seed="7", **own)
    # What is told is the seed that all stages without their own share.
    applied = json.loads(response.headers["x-parameters-applied"])
    assert (applied["draw"]["seed"], applied["paint"]["seed"]) == (3, 7)
    second = await server.run(
        "draw+paint", picture(), draw={"seed": 4}, seed=8, prompt="x", output_format="png"
    )
    assert second.headers["x-cache"] == "hit"


async def test_a_model_without_seeds_runs_once(server: Server) -> None:
    response = await edit(server, n="3")
    assert len(made(response)) == 3
    assert len(set(made(response))) == 1
    assert response.json()["warnings"] == [
        "request; n: echo draws no random numbers, and all pictures are the same"
    ]
    strict = await edit(server, n="3", headers={"x-strict": "true"})
    assert error_of(strict)[:3] == (422, "invalid_request_error", "n")


async def test_one_that_fails_ends_all(tmp_path: Path) -> None:
    slow = fake("slow", SEED, steps=3, step_s=0.1, fail="crash")
    async with serving(tmp_path, slow) as server:
        response = await edit(server, n="4")
        assert error_of(response)[:2] == (500, "server_error")
        assert response.headers["x-should-retry"] == "false"
        assert jobs() == 0


async def test_a_full_queue_refuses_all(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", SEED, step_s=0.05, steps=6), queue_size=2) as server:
        response = await edit(server, n="5")
        assert error_of(response)[:2] == (429, "rate_limit_error")
        assert int(response.headers["retry-after"]) >= 1
        assert "x-should-retry" not in response.headers

        async def idle() -> bool:
            return jobs() == 0

        await until(idle)


async def test_a_client_that_leaves_takes_all_its_jobs_along(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", SEED, step_s=0.02, steps=100_000)) as server:
        line = Line(form_of(("image", picture(), True), ("n", b"3", False)))
        task = line.post(server, URL, content_type="multipart/form-data; boundary=b")

        async def at_work() -> bool:
            return jobs() == 3

        async def idle() -> bool:
            return jobs() == 0

        await until(at_work)
        line.left.set()
        await asyncio.wait_for(task, SOON_S)
        assert line.sent == []
        await until(idle)


async def test_an_operator_cancels_all_of_a_request(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", SEED, step_s=0.02, steps=100_000)) as server:
        task = asyncio.create_task(edit(server, n="2", headers={"x-request-id": "mine"}))

        async def at_work() -> bool:
            return jobs() == 2

        await until(at_work)
        await server.client.post("/requests/mine/cancel")
        response = await asyncio.wait_for(task, SOON_S)
        assert error_of(response)[:4] == (409, "invalid_request_error", None, "cancelled")
        assert response.headers["x-should-retry"] == "false"
