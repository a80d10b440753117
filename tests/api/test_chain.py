"""Chains through the whole server: they give what their models give one by one, bit for bit.

One by one means that each answer, a PNG, is sent to the next model.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from api.server import (
    DRAW,
    ECHO,
    INVERT,
    SOON_S,
    STRENGTH,
    STYLE_IMAGE,
    Gate,
    Server,
    begin,
    command,
    fake,
    jobs,
    picture,
    problem_of,
    sample,
    serving,
    state,
    text,
    until,
)  # fmt: skip
from calotype.catalog.catalog import build_catalog
from calotype.domain.model import ParamSpec

MASK = ParamSpec(name="mask_image", type="image", help="what to repaint")
BLUR = ParamSpec(name="mask_blur", type="integer", help="soft edge", default=0, minimum=0)
SCALE = ParamSpec(name="scale", type="integer", help="", choices=(2, 3), default=2)
REPAINT = fake("repaint", INVERT, MASK, BLUR)
DOUBLE = replace(fake("double", INVERT), scale=2)
UP = fake("up", SCALE, STRENGTH)  # the fake makes no use of it: its picture is brought to size
CRASH = fake("crash", fail="crash")
STYLE = replace(fake("style", STYLE_IMAGE), params=(replace(STYLE_IMAGE, required=True),))
MODELS = (ECHO, DRAW, STYLE, REPAINT, DOUBLE, UP, CRASH)
SIZE = {"width": 11, "height": 7}
PNG = {"accept": "image/png"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path, *MODELS, max_output_pixels=9000) as started:
        yield started


def photo(h: int = 20, w: int = 30, channels: int = 3, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    return file(pixels)


def file(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def hole(h: int, w: int) -> str:
    mask = np.zeros((h, w), np.uint8)
    mask[3:9, 5:14] = 255
    return text(file(mask))


def opened(response: httpx.Response) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


async def one_by_one(server: Server, upload: bytes, *stages: tuple[str, dict[str, object]]) -> Any:  # noqa: ANN401
    """Run models in turn, a PNG between each two."""
    for model, parameters in stages:
        response = await server.run(model, upload, PNG, **parameters)
        assert response.status_code == 200, response.text
        upload = response.content
    return np.asarray(Image.open(io.BytesIO(upload)))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "stages",
    [
        [("echo", {"invert": True}), ("double", {})],
        [("double", {}), ("echo", {"invert": True})],
        [("double", {"target_size": SIZE}), ("double", {}), ("up", {"target_size": SIZE})],
        [("up", {"scale": 3}), ("echo", {"target_size": {"width": 25, "height": 40}})],
        [("double", {}), ("repaint", {"mask_image": hole(40, 60), "invert": True}), ("echo", {})],
        [("repaint", {"mask_image": hole(20, 30), "mask_blur": 3, "invert": True}), ("up", {})],
    ],
    ids=lambda stages: "+".join(name for name, _ in stages),
)
async def test_it_is_what_the_models_give_one_by_one(
    server: Server, stages: list[tuple[str, dict[str, object]]], channels: int
) -> None:
    upload, name = photo(channels=channels), "+".join(name for name, _ in stages)
    often = {stage for stage, _ in stages if [s for s, _ in stages].count(stage) > 1}
    tables: dict[str, object] = {}
    for index, (stage, parameters) in enumerate(stages):
        number = 1 + [s for s, _ in stages[:index]].count(stage)
        tables[f"{stage}#{number}" if stage in often else stage] = parameters
    response = await server.run(name, upload, PNG, **tables)
    assert np.array_equal(opened(response), await one_by_one(server, upload, *stages))
    assert "x-hf-warning" not in response.headers


async def test_what_is_transparent_is_repainted_by_the_first_stage(server: Server) -> None:
    upload = photo(channels=4)
    both = await server.run("repaint+double", upload, PNG, repaint={"invert": True})
    alone = await one_by_one(server, upload, ("repaint", {"invert": True}), ("double", {}))
    assert np.array_equal(opened(both), alone)


async def test_an_empty_mask_skips_its_stage_alone(server: Server) -> None:
    upload, mask = photo(), text(file(np.zeros((20, 30), np.uint8)))
    response = await server.run("repaint+double", upload, PNG, mask_image=mask, invert=True)
    alone = await one_by_one(server, upload, ("double", {"invert": True}))
    assert np.array_equal(opened(response), alone)
    assert response.headers["x-unchanged-pixels"] == "repaint=1"
    assert await state(server, "repaint") == "unloaded"


async def test_a_mask_counts_for_what_is_written(server: Server) -> None:
    jpeg = {"accept": "image/jpeg"}
    last = await server.run("echo+repaint", photo(), jpeg, mask_image=hole(20, 30))
    assert "changes every pixel" in last.headers["x-hf-warning"]
    first = await server.run("repaint+echo", photo(), jpeg, mask_image=hole(20, 30))
    assert "x-hf-warning" not in first.headers


async def test_the_headers_tell_of_all_stages(server: Server) -> None:
    response = await server.run("draw+up+test/draw", photo(), scale=3, output_format="webp")
    seed = int(response.headers["x-seed"])
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["x-model-id"] == "test/draw+test/up+test/draw"
    revisions = "+".join(spec.revision for spec in (DRAW, UP, DRAW))
    assert response.headers["x-model-revision"] == revisions
    assert json.loads(response.headers["x-parameters-applied"]) == {
        "draw#1": {"seed": seed},
        "up": {"scale": 3, "strength": 0.5},
        "draw#2": {"seed": seed, "output_format": "webp"},
    }
    assert response.headers["x-compute-type"] == "cpu"


@pytest.mark.parametrize("path", ["/models/echo+double", "/models/test/echo%2Btest%2Fdouble"])
async def test_the_joint_may_be_encoded(server: Server, path: str) -> None:
    response = await server.client.post(path, content=photo())
    assert opened(response).shape == (40, 60, 3)


async def test_an_equal_chain_is_answered_from_the_cache(server: Server) -> None:
    upload = photo()
    by_id: dict[str, Any] = {"test/echo": {"strength": 1.0}}
    first = await server.run("echo+draw", upload, echo={"strength": 1})
    again = await server.run("test/echo+draw", upload, **by_id)
    other = await server.run("echo+draw", upload, echo={"strength": 0.5})
    turned = await server.run("draw+echo", upload, echo={"strength": 1})
    assert [r.headers["x-cache"] for r in (first, again, other, turned)] == [
        "miss", "hit", "miss", "miss"
    ]  # fmt: skip
    for header in ("x-seed", "x-parameters-applied", "x-model-id", "etag"):
        assert first.headers[header] == again.headers[header]
    assert again.headers["x-compute-type"] == "cache"


async def test_wrong_parameters(server: Server) -> None:
    wrong = await server.run("echo+up", photo(), up={"scale": 7})
    assert problem_of(wrong) == (422, "validation", "up.scale must be one of 2, 3, got 7")
    url = await server.run("echo+style", photo(), style={"style_image": "https://x/y.png"})
    assert problem_of(url)[2].startswith("style.style_image is a URL")
    missing = await server.run("echo+style", photo())
    assert problem_of(missing)[2].startswith("style.style_image is required by style")
    bad = await server.run("echo+style", photo(), style={"style_image": text(b"nonsense")})
    status, kind, said = problem_of(bad)
    assert (status, kind) == (400, "image")
    assert said.startswith("style: cannot identify image file")


async def test_strict(server: Server) -> None:
    parameters: dict[str, Any] = {"prompt": "x", "echo": {"sparkle": 1}}
    answer = await server.run("echo+double", photo(), **parameters)
    assert answer.headers.get_list("x-hf-warning") == [
        "parameters; prompt was ignored: echo+double takes no prompt",
        "parameters; echo.sparkle was ignored: not a parameter of Calotype",
    ]
    strict = {"x-strict": "true"}
    refused = await server.run("echo+double", photo(), strict, **parameters)
    assert problem_of(refused)[2] == "prompt is refused: echo+double takes no prompt"
    refused = await server.run("echo+double", photo(), strict, echo={"sparkle": 1})
    assert problem_of(refused)[2] == "echo.sparkle is not a parameter of Calotype"


async def test_a_stage_that_fails_is_named(server: Server) -> None:
    response = await server.run("echo+crash", photo())
    assert problem_of(response) == (
        500, "backend", "crash: The model failed; the server's log says why"
    )  # fmt: skip
    mask = await server.run("double+repaint", photo(), mask_image=hole(20, 30))
    assert problem_of(mask) == (
        422, "validation", "repaint: mask_image must be of the picture's size 60x40, got 30x20"
    )  # fmt: skip


async def test_a_result_that_is_too_large_is_refused_before_anything_runs(server: Server) -> None:
    response = await server.run("double+double", photo())
    status, kind, said = problem_of(response)
    assert (status, kind) == (413, "too_large")
    assert said.startswith("double#2: the result would be 120x80, 9600 pixels; at most 9000")
    assert await state(server, "double") == "unloaded"
    small = {"target_size": {"width": 30, "height": 20}}
    response = await server.run("double+double", photo(), PNG, **{"double#1": small})
    assert opened(response).shape == (40, 60, 3)


async def test_unknown_stages(server: Server) -> None:
    nope = await server.run("echo+nope", photo())
    assert problem_of(nope) == (404, "unknown_model", "Model nope does not exist")
    empty = await server.run("echo+", photo())
    assert problem_of(empty)[2].startswith("Model echo+ does not exist: a stage has no name")


async def test_a_token_must_be_allowed_every_stage(server: Server) -> None:
    secret = server.tokens.create("some", models=("echo", "test/dou*"))
    headers = {"authorization": f"Bearer {secret}"}

    async def is_closed() -> bool:
        return (await server.run("echo", photo())).status_code == 401

    await until(is_closed)
    allowed = await server.run("echo+double", photo(), headers)
    assert allowed.status_code == 200
    refused = await server.run("echo+draw", photo(), headers)
    assert problem_of(refused)[:2] == (403, "forbidden")
    assert "test/draw" in problem_of(refused)[2]
    for path in ("/models/echo+draw", "/status/echo+draw", "/api/models/echo+draw"):
        assert (await server.client.get(path, headers=headers)).status_code == 403
    assert (await server.client.get("/models/echo+double", headers=headers)).status_code == 200


async def test_a_chain_is_described(server: Server) -> None:
    await server.run("echo", photo())
    about = (await server.client.get("/models/echo+up")).json()
    assert (await server.client.get("/models/echo+up/info")).json() == about
    assert about["id"] == "test/echo+test/up"
    assert about["alias"] == "echo+up"
    assert about["task"] == "image-to-image"
    assert about["state"] == "unloaded"
    properties = about["parameters"]["properties"]
    assert properties["echo"]["properties"]["strength"]["maximum"] == 1
    assert properties["up"]["properties"]["scale"]["enum"] == [2, 3]
    assert {"target_size", "output_format"} <= set(properties)
    assert [(stage["stage"], stage["state"]) for stage in about["stages"]] == [
        ("echo", "loaded"), ("up", "unloaded")
    ]  # fmt: skip
    await server.run("up", photo())
    assert await state(server, "echo+up") == "loaded"
    assert (await server.client.get("/status/echo+up")).json()["loaded"] is True
    assert (await server.client.get("/api/models/echo+up")).json()["id"] == "test/echo+test/up"
    listed = (await server.client.get("/models")).json()
    assert len(listed) == len(MODELS)


async def test_a_chain_is_not_loaded_as_one(server: Server) -> None:
    response = await command(server, "/models/echo+up/load")
    assert problem_of(response)[2] == (
        "echo+up is a chain: its models are loaded and unloaded one by one"
    )


async def test_the_metrics_have_one_name_for_all_chains(server: Server) -> None:
    def answers(model: str) -> float:
        return sample("calotype_requests_total", model=model, status="200")

    before = answers("chain")
    await server.run("echo+draw", photo())
    await server.run("draw+echo", photo())
    assert answers("chain") == before + 2
    assert answers("test/echo+test/draw") == 0


async def test_a_chain_is_cancelled_in_any_stage(tmp_path: Path, gate: Gate) -> None:
    endless = fake("slow", step_s=1, steps=10**9)
    async with serving(tmp_path, ECHO, endless) as server:
        running = begin(server, "mine", "echo+slow")
        await gate.reached()
        assert (await command(server, "/requests/mine/cancel")).json()["cancelled"] == 1
        response = await asyncio.wait_for(running, SOON_S)
        assert problem_of(response)[:2] == (409, "cancelled")
        gate.open()

        async def is_idle() -> bool:
            return not jobs()

        await until(is_idle)


async def test_the_deadline_is_that_of_the_whole(tmp_path: Path) -> None:
    nap = fake("nap", step_s=0.2)
    async with serving(tmp_path, nap) as server:
        response = await server.run("+".join(["nap"] * 8), photo(), {"x-deadline-ms": "700"})
        assert problem_of(response)[:2] == (504, "timeout")


async def test_a_chain_that_runs_is_not_refused_midway(tmp_path: Path, gate: Gate) -> None:
    first = fake("first", step_s=1)
    async with serving(tmp_path, first, ECHO, queue_size=1) as server:
        running = begin(server, "mine", "first+echo")
        await gate.reached()
        server.services.refuse()
        gate.open()
        response = await asyncio.wait_for(running, SOON_S)
        assert response.status_code == 200, "the end waits for what was let in"


async def test_the_models_that_come_along(tmp_path: Path) -> None:
    specs = [build_catalog().get(name) for name in ("upscale-fast", "style")]
    async with serving(tmp_path, *specs, hold_s=120.0) as server:
        upload = picture(24)
        parameters = {"upscale-fast": {"scale": 2}, "style": "neon", "strength": 0.8}
        both = await server.run("upscale-fast+style", upload, PNG, **parameters)
        alone = await one_by_one(
            server, upload,
            ("upscale-fast", {"scale": 2}), ("style", {"style": "neon", "strength": 0.8}),
        )  # fmt: skip
        assert np.array_equal(opened(both), alone)
        assert opened(both).shape == (48, 48, 3)
