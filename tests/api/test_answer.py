import asyncio
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.server import ECHO, Server, fake, picture, pixels_of, problem_of, serving, text

ALWAYS = {
    "content-type",
    "content-length",
    "etag",
    "x-request-id",
    "x-compute-type",
    "x-compute-time",
    "x-queue-time",
    "x-inference-time",
    "x-total-time",
    "x-model-id",
    "x-model-revision",
    "x-cache",
    "x-batch-size",
    "x-parameters-applied",
    "x-content-type-options",
}


async def test_a_computed_answer_has_exactly_the_documented_headers(server: Server) -> None:
    response = await server.run()
    assert set(response.headers) == ALWAYS
    found = response.headers
    assert found["content-length"] == str(len(response.content))
    assert re.fullmatch(r'"[0-9a-f]+"', found["etag"])
    assert found["x-compute-type"] == "cpu"
    assert re.fullmatch(r"[0-9]+\.[0-9]{3}", found["x-compute-time"])
    for name in ("x-queue-time", "x-inference-time", "x-total-time"):
        assert re.fullmatch("[0-9]+", found[name])
    assert found["x-model-id"] == "test/echo"
    assert found["x-model-revision"] == ECHO.revision
    assert found["x-cache"] == "miss"
    assert found["x-batch-size"] == "1"
    assert found["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in found


async def test_times_are_in_their_units(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.12)) as server:
        found = (await server.run("slow")).headers
        assert 0.12 <= float(found["x-compute-time"]) < 5
        assert 120 <= int(found["x-inference-time"]) < 5000
        assert int(found["x-total-time"]) >= int(found["x-inference-time"])


async def test_a_cached_answer_is_the_same_and_says_so(server: Server) -> None:
    first, second = await server.run(), await server.run()
    assert second.content == first.content
    assert second.headers["x-cache"] == "hit"
    assert second.headers["x-compute-type"] == "cache"
    assert second.headers["x-compute-time"] == "0.000"
    assert second.headers["etag"] == first.headers["etag"]
    assert set(second.headers) == ALWAYS


async def test_both_names_of_a_model_share_an_answer(server: Server) -> None:
    assert (await server.run("test/echo")).headers["x-cache"] == "miss"
    assert (await server.run("echo")).headers["x-cache"] == "hit"
    assert (await server.run("test%2Fecho")).headers["x-cache"] == "hit"
    assert (await server.run("echo", invert=False, strength=0.5)).headers["x-cache"] == "hit"


async def test_other_parameters_are_another_answer(server: Server) -> None:
    first = await server.run()
    second = await server.run(invert=True)
    assert second.headers["x-cache"] == "miss"
    assert np.array_equal(pixels_of(second.content), 255 - pixels_of(first.content))


async def test_identical_requests_in_flight_are_computed_once(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.2)) as server:
        answers = await asyncio.gather(*(server.run("slow") for _ in range(3)))
        found = sorted(answer.headers["x-cache"] for answer in answers)
        assert found == ["coalesced", "coalesced", "miss"]
        assert len({answer.content for answer in answers}) == 1


async def test_waiting_jobs_share_a_batch(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.2)) as server:
        pictures = [picture(seed=n) for n in range(4)]
        answers = await asyncio.gather(*(server.run("slow", upload) for upload in pictures))
        assert max(int(answer.headers["x-batch-size"]) for answer in answers) > 1
        for answer, upload in zip(answers, pictures, strict=True):
            assert np.array_equal(pixels_of(answer.content), pixels_of(upload))


async def test_the_seed_is_told(server: Server) -> None:
    named = await server.run("draw", seed=7)
    assert named.headers["x-seed"] == "7"
    assert json.loads(named.headers["x-parameters-applied"]) == {"seed": 7}
    drawn = await server.run("draw")
    seed = int(drawn.headers["x-seed"])
    assert 0 <= seed < 2**63
    assert json.loads(drawn.headers["x-parameters-applied"]) == {"seed": seed}
    again = await server.run("draw")
    assert (again.headers["x-cache"], again.headers["x-seed"]) == ("hit", str(seed))


@pytest.mark.parametrize(
    "form", ['"{}"', 'W/"{}"', '"other", "{}"', '"other" , W/"{}"', "*", '"a","{}","b"']
)
async def test_if_none_match(server: Server, form: str) -> None:
    tag = (await server.run()).headers["etag"].strip('"')
    response = await server.run(headers={"if-none-match": form.format(tag)})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == f'"{tag}"'
    assert "content-type" not in response.headers
    assert response.headers["x-request-id"]


async def test_several_lines_of_if_none_match_are_joined(server: Server) -> None:
    tag = (await server.run()).headers["etag"]
    lines = [("if-none-match", '"other"'), ("if-none-match", tag)]
    assert (await server.run(headers=lines)).status_code == 304


@pytest.mark.parametrize("sent", ['"other"', "", "{}", "W/*"])
async def test_another_tag_gets_the_picture(server: Server, sent: str) -> None:
    tag = (await server.run()).headers["etag"].strip('"')
    response = await server.run(headers={"if-none-match": sent.format(tag)})
    assert response.status_code == 200
    assert response.content


async def test_the_parameters_that_were_used_are_told(server: Server) -> None:
    response = await server.run(strength=1, target_size={"width": 20, "height": 10})
    assert pixels_of(response.content).shape == (10, 20, 3)
    assert json.loads(response.headers["x-parameters-applied"]) == {
        "invert": False,
        "strength": 1.0,
        "target_size": {"width": 20, "height": 10},
    }
    plain = json.loads((await server.run()).headers["x-parameters-applied"])
    assert plain == {"invert": False, "strength": 0.5}


async def test_width_and_height_are_an_alias(server: Server) -> None:
    response = await server.run(width=20, height=10)
    assert pixels_of(response.content).shape == (10, 20, 3)


async def test_ignored_parameters_are_one_warning_each(server: Server) -> None:
    response = await server.run(guidance_scale=7.5, strenght=1, prompt=None)
    assert response.headers.get_list("x-hf-warning") == [
        "parameters; guidance_scale was ignored: echo takes no guidance scale",
        "parameters; strenght was ignored: not a parameter of Calotype; did you mean strength?",
    ]


async def test_what_a_format_cannot_hold_is_a_warning_from_the_cache_too(server: Server) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (10, 20, 30, 40)).save(file, "PNG")
    for cache in ("miss", "hit"):
        response = await server.run(upload=file.getvalue(), output_format="jpeg")
        assert response.headers["x-cache"] == cache
        (warning,) = response.headers.get_list("x-hf-warning")
        assert warning.startswith("output; ")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strength": 1.5}, "strength must be in [0, 1], got 1.5"),
        ({"strength": "high"}, 'strength must be a number, got "high"'),
        ({"strength": True}, "strength must be a number, got true"),
        ({"invert": "yes"}, 'invert must be true or false, got "yes"'),
        ({"output_format": "bmp"}, 'output_format must be one of png, jpeg, webp, got "bmp"'),
        ({"width": 20}, "width and height come together, got only width"),
        ({"target_size": {"width": 20}}, "target_size must be"),
        ({"target_size": {"width": 0, "height": 1}}, "target_size.width must be in [1, 16384]"),
        (
            {"target_size": {"width": 1, "height": 16385}},
            "target_size.height must be in [1, 16384]",
        ),
    ],
)
async def test_a_wrong_parameter_is_named(
    server: Server, parameters: dict[str, object], message: str
) -> None:
    status, kind, said = problem_of(await server.run(**parameters))  # type: ignore[arg-type]
    assert (status, kind) == (422, "validation")
    assert said.startswith(message)


async def test_a_number_that_json_cannot_spell_is_refused(server: Server) -> None:
    document = {"inputs": text(picture()), "parameters": {"strength": math.nan}}
    body = json.dumps(document)
    assert "NaN" in body
    response = await server.client.post("/models/echo", content=body)
    assert problem_of(response)[:2] == (422, "validation")


@pytest.mark.parametrize("parameters", [{"guidance_scale": 7.5}, {"strenght": 1}])
async def test_strict_refuses_what_would_be_ignored(
    server: Server, parameters: dict[str, object]
) -> None:
    response = await server.run(headers={"x-strict": "1"}, **parameters)  # type: ignore[arg-type]
    status, kind, message = problem_of(response)
    assert (status, kind) == (422, "validation")
    assert message.startswith(next(iter(parameters)))


async def test_the_default_model_answers_at_the_root(server: Server) -> None:
    response = await server.client.post("/", content=picture())
    assert response.headers["x-model-id"] == "test/echo"


@pytest.mark.parametrize("model", ["draw", "test/draw"])
@pytest.mark.parametrize("prefix", ["/models", "/pipeline/image-to-image", "/hf-inference/models"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_every_path_that_runs_a_model(
    server: Server, model: str, prefix: str, end: str
) -> None:
    response = await server.client.post(f"{prefix}/{model}{end}", content=picture())
    assert response.status_code == 200
    assert response.headers["x-model-id"] == "test/draw"


async def test_a_too_large_result_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO, max_output_pixels=1000) as server:
        response = await server.run(width=100, height=100)
        assert problem_of(response)[:2] == (413, "too_large")
