"""Every parameter has its effect through the wire, and whatever was changed is told."""

import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from api.server import Server, problem_of, serving
from calotype.domain.image import Pixels
from diffusion.conftest import Family, encoded, hole, png, shown
from diffusion.test_equal import EXACT
from models import photo

OTHER: dict[str, Any] = {
    "prompt": "turn it red",
    "negative_prompt": "ugly blurry",
    "guidance_scale": 3.0,
    "true_cfg_scale": 4.0,
    "image_guidance_scale": 3.0,
    "num_inference_steps": 5,
    "strength": 0.5,
    "noise_level": 300,
    "seed": 8,
}
"""Another value for each."""
TOGETHER = {("kontext", "true_cfg_scale"): {"negative_prompt": "ugly"}}
"""What has an effect only beside something else."""
NEEDED = {("kontext", "negative_prompt"): {"true_cfg_scale": 4.0}}


@pytest.fixture(scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, families: dict[str, Family], anyio_backend: str
) -> AsyncIterator[Server]:
    del anyio_backend
    folder = tmp_path_factory.mktemp("server")
    async with serving(folder, *(family.spec for family in families.values()), **EXACT) as started:
        yield started


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def ask(server: Server, family: Family, pixels: Pixels, **changes: Any) -> Any:
    images = {name: encoded(value) for name, value in family.images.items()}
    parameters = family.parameters | images | {"output_format": "png"} | changes
    return await server.run(family.spec.id, png(pixels), **parameters)


@pytest.mark.parametrize(
    "name", ["pix2pix", "img2img", "inpaint", "xl-pix2pix", "upscale", "lcm", "sd3", "kontext"]
)
async def test_every_parameter_changes_the_picture(
    name: str, server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families[name]
    for param in family.spec.params:
        if param.name not in OTHER:
            assert param.name in {"mask_image", "mask_blur", "loras"}, "has a test of its own"
            continue
        beside = TOGETHER.get((name, param.name), {}) | NEEDED.get((name, param.name), {})
        before = shown(await ask(server, family, pixels, **beside))
        after = await ask(server, family, pixels, **beside, **{param.name: OTHER[param.name]})
        assert not np.array_equal(shown(after), before), param.name
        assert f'"{param.name}": ' in after.headers["x-parameters-applied"]


async def test_a_list_of_negative_prompts_is_one(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["pix2pix"]
    listed = await ask(server, family, pixels, negative_prompt=["ugly", "blurry"])
    joined = await ask(server, family, pixels, negative_prompt="ugly, blurry")
    none = await ask(server, family, pixels)
    assert np.array_equal(shown(listed), shown(joined))
    assert not np.array_equal(shown(listed), shown(none))


async def test_a_mask_says_what_is_repainted(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["inpaint"]
    middle = shown(await ask(server, family, pixels))
    everything = encoded(np.full_like(pixels, 255))
    assert not np.array_equal(
        shown(await ask(server, family, pixels, mask_image=everything)), middle
    )


async def test_where_a_picture_is_transparent_it_is_repainted(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["inpaint"]
    transparent = np.dstack([pixels, 255 - hole(64, 64)[:, :, 0]])
    parameters = family.parameters | {"output_format": "png"}
    found = await server.run(family.spec.id, png(transparent), **parameters)
    assert np.array_equal(shown(found), shown(await ask(server, family, pixels)))
    alpha = PIL.Image.open(io.BytesIO(found.content)).convert("RGBA").getchannel("A")
    assert alpha.getextrema() == (255, 255), "the hole is filled"


async def test_wrong_masks_are_refused(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["inpaint"]
    answer = await ask(server, family, pixels, mask_image=encoded(hole(32, 64)))
    assert problem_of(answer) == (
        422,
        "validation",
        "mask_image must be of the picture's size 64x64, got 64x32",
    )
    answer = await server.run(family.spec.id, png(pixels), **family.parameters)
    status, _, text = problem_of(answer)
    assert status == 422
    assert "mask_image is required" in text


@pytest.mark.parametrize("name", ["pix2pix", "img2img", "kontext", "upscale"])
async def test_the_target_size_is_exact(
    name: str, server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    size = {"width": 333, "height": 517}
    answer = await ask(server, families[name], pixels, target_size=size)
    assert shown(answer).shape == (517, 333, 3)
    assert "resized to 333x517" in answer.headers["x-hf-warning"]


@pytest.mark.parametrize("size", [(61, 67), (1, 9), (200, 30)])
async def test_without_one_the_picture_keeps_its_size(
    size: tuple[int, int], server: Server, families: dict[str, Family]
) -> None:
    answer = await ask(server, families["pix2pix"], photo(*size))
    assert shown(answer).shape == (*size, 3)


async def test_a_large_picture_is_computed_near_the_native_size(
    server: Server, families: dict[str, Family]
) -> None:
    answer = await ask(server, families["pix2pix"], photo(300, 400))
    assert shown(answer).shape == (300, 400, 3)
    assert answer.headers["x-hf-warning"] == "size; computed at 92x68, then resized to 400x300"


async def test_a_long_picture_is_computed_no_longer_than_the_network_has_places(
    server: Server, families: dict[str, Family]
) -> None:
    answer = await ask(server, families["sd3"], photo(20, 200))
    assert shown(answer).shape == (20, 200, 3)
    assert answer.headers["x-hf-warning"] == "size; computed at 128x12, then resized to 200x20"


async def test_what_has_no_effect_is_told(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    answer = await ask(
        server, families["pix2pix"], pixels, negative_prompt="ugly", guidance_scale=1.0
    )
    assert "negative_prompt had no effect" in answer.headers["x-hf-warning"]
    answer = await ask(server, families["pix2pix"], pixels, scale=2)
    assert "acme/pix2pix takes no scale" in answer.headers["x-hf-warning"]


async def test_an_editor_needs_a_prompt(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    status, kind, text = problem_of(await server.run("acme/pix2pix", png(pixels)))
    assert (status, kind) == (422, "validation")
    assert text.startswith("prompt is required by acme/pix2pix")
    assert (await server.run("acme/img2img", png(pixels), num_inference_steps=3)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strength": 0.1}, "strength x num_inference_steps"),
        ({"num_inference_steps": 0}, "num_inference_steps must be in [1, 500], got 0"),
        ({"num_inference_steps": 501}, "num_inference_steps must be in [1, 500], got 501"),
        ({"strength": 1.5}, "strength must be in [0, 1], got 1.5"),
        ({"guidance_scale": -1}, "guidance_scale must be in [0, 100], got -1"),
        ({"seed": -1}, "seed must be in"),
        ({"prompt": 5}, "prompt must be a string, got 5"),
    ],
)
async def test_wrong_values_are_refused(
    changes: dict[str, Any], said: str, server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    status, _, text = problem_of(await ask(server, families["img2img"], pixels, **changes))
    assert status == 422
    assert text.startswith(said)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "upscale",
            {"noise_level": 400},
            "noise_level must be at most 350 for this model",
        ),
        (
            "lcm",
            {"num_inference_steps": 30, "strength": 0.5},
            "num_inference_steps must be at most 25 at",
        ),
        (
            "lcm",
            {"num_inference_steps": 51, "strength": 1.0},
            "num_inference_steps must be at most 50",
        ),
    ],
)
async def test_the_limits_of_a_pipeline_itself(  # noqa: PLR0917  fixtures
    name: str,
    changes: dict[str, Any],
    said: str,
    server: Server,
    families: dict[str, Family],
    pixels: Pixels,
) -> None:
    status, kind, text = problem_of(await ask(server, families[name], pixels, **changes))
    assert (status, kind) == (422, "validation")
    assert text.startswith(said)


async def test_a_consistency_model_makes_a_single_step(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    answer = await ask(server, families["lcm"], pixels, num_inference_steps=1, strength=0.8)
    assert answer.status_code == 200


async def test_transparency_is_kept_where_a_mask_says_what_to_repaint(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family, alpha = families["inpaint"], np.full((64, 64, 1), 255, np.uint8)
    alpha[:5] = 0
    parameters = family.parameters | {"output_format": "png", "mask_image": encoded(hole(64, 64))}
    answer = await server.run(family.spec.id, png(np.dstack([pixels, alpha])), **parameters)
    found = PIL.Image.open(io.BytesIO(answer.content))
    assert np.array_equal(np.array(found)[:, :, 3:], alpha)


async def test_a_seed_is_drawn_and_told(
    server: Server, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["img2img"]
    drawn = await server.run(
        family.spec.id, png(pixels), {"x-use-cache": "false"}, num_inference_steps=4
    )
    seed = int(drawn.headers["x-seed"])
    again = await ask(
        server, family, pixels, seed=seed, prompt="", strength=0.8, num_inference_steps=4
    )
    assert np.array_equal(shown(drawn), shown(again))


async def test_the_catalog_shows_what_a_pipeline_takes(server: Server) -> None:
    told = (await server.client.get("/models/acme/pix2pix")).json()
    properties = told["parameters"]["properties"]
    assert properties["num_inference_steps"]["default"] == 100
    assert properties["image_guidance_scale"]["default"] == 1.5
    assert told["parameters"]["required"] == ["prompt"]
    assert told["backend"] == "diffusers"
