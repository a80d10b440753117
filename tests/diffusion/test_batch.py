"""Requests that share a call, or run beside each other, get what each gets alone."""

import asyncio
import gc
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.server import serving
from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import DiffusersBackend, load
from calotype.domain.image import Pixels
from calotype.domain.request import Job
from diffusion.conftest import Family, png, shown
from diffusion.test_equal import EXACT
from models import job, photo

PROMPTS = ("make it snow", "a red night photo", "turn it blue", "")


def jobs(family: Family, number: int = 4) -> list[Job]:
    """Make jobs that differ in all that a call can have of each its own."""
    made = []
    for index in range(number):
        parameters = family.parameters | {
            "prompt": PROMPTS[index % len(PROMPTS)],
            "negative_prompt": f"ugly {index}",
            "guidance_scale": 2.0 + index,
            "seed": 100 + index,
        }
        if family.spec.param("image_guidance_scale"):
            parameters["image_guidance_scale"] = 1.0 + index / 2
        made.append(job(family.spec, photo(64, 64, index), parameters))
    return made


@pytest.mark.parametrize("name", ["pix2pix", "img2img", "xl-img2img"])
def test_a_batch_gets_what_each_gets_alone(
    name: str, families: dict[str, Family], exact: Callable[[str], DiffusersBackend]
) -> None:
    backend = exact(name)
    batch = jobs(families[name])
    assert backend.batching is not None
    assert len({backend.batching.key(one) for one in batch}) == 1
    calls = itertools.count()
    original = backend._pipe.unet.forward
    backend._pipe.unet.forward = lambda *args, **kwargs: (next(calls), original(*args, **kwargs))[1]
    try:
        together = backend.run(batch)
    finally:
        del backend._pipe.unet.forward
    made = next(calls)
    for one, answer in zip(batch, together, strict=True):
        (alone,) = backend.run([one])
        difference = np.abs(answer.pixels.astype(int) - alone.pixels)
        assert difference.max() <= 1
    steps = batch[0].params["num_inference_steps"]
    assert isinstance(steps, int)
    assert made <= steps, "they did not share a call"
    assert len({answer.pixels.tobytes() for answer in together}) == len(batch)


def test_those_with_and_without_guidance_are_kept_apart(
    families: dict[str, Family], exact: Callable[[str], DiffusersBackend]
) -> None:
    family, backend = families["pix2pix"], exact("pix2pix")
    changes: list[dict[str, Any]] = [
        {"guidance_scale": 0.5},
        {"guidance_scale": 9.0},
        {"guidance_scale": 9.0, "negative_prompt": "ugly"},
        {"guidance_scale": 9.0, "image_guidance_scale": 0.2},
    ]
    batch = [job(family.spec, photo(64, 64), family.parameters | change) for change in changes]
    together = backend.run(batch)
    for one, answer in zip(batch, together, strict=True):
        (alone,) = backend.run([one])
        assert np.abs(answer.pixels.astype(int) - alone.pixels).max() <= 1


async def test_eight_at_once_equal_each_alone(tmp_path: Path, families: dict[str, Family]) -> None:
    family = families["pix2pix"]
    requests: list[tuple[Pixels, dict[str, Any]]] = []
    for index in range(8):
        side = 64 if index % 2 else 48
        parameters = family.parameters | {
            "prompt": PROMPTS[index % 3],
            "seed": index,
            "guidance_scale": 3.0 + index % 3,
        }
        requests.append((photo(64, side, index), parameters))
    async with serving(tmp_path, family.spec, **EXACT) as server:
        headers = {"x-use-cache": "false"}

        async def ask(pixels: Pixels, parameters: dict[str, Any]) -> Pixels:
            answer = await server.run("acme/pix2pix", png(pixels), headers, **parameters)
            return shown(answer)

        alone = [await ask(*request) for request in requests]
        together = await asyncio.gather(*(ask(*request) for request in requests))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert len({picture.tobytes() for picture in alone}) == len(alone)


def test_in_half_precision_each_has_its_own_guidance_too(families: dict[str, Family]) -> None:
    family = families["img2img"]
    machine = Machine(precision="bf16", diffusion=Diffusion(engine="torch"))
    backend = load(family.spec, lambda _: b"", machine)
    if "bf16" not in backend.precision:
        pytest.skip("this processor has no bf16")
    batch = [
        job(family.spec, photo(64, 64, n), family.parameters | {"guidance_scale": scale, "seed": n})
        for n, scale in enumerate((7.3, 12.7))
    ]
    for one, answer in zip(batch, backend.run(batch), strict=True):
        (alone,) = backend.run([one])
        # Rounding to 8 bits of mantissa differs a little with the size of the batch.
        assert np.abs(answer.pixels.astype(int) - alone.pixels).max() <= 2


def test_networks_that_read_the_guidance_take_one_at_a_time(
    families: dict[str, Family], exact: Callable[[str], DiffusersBackend]
) -> None:
    family, backend = families["lcm"], exact("lcm")
    jobs = [
        job(family.spec, photo(64, 64), family.parameters | {"guidance_scale": scale})
        for scale in (4.0, 9.0)
    ]
    first, second = backend.run(jobs)
    assert not np.array_equal(first.pixels, second.pixels)
    assert not backend._interface.guided(jobs[0])


def test_nothing_holds_on_to_a_picture_that_is_done(
    families: dict[str, Family], exact: Callable[[str], DiffusersBackend]
) -> None:
    family, backend = families["pix2pix"], exact("pix2pix")
    wanted = job(family.spec, photo(64, 64), family.parameters)
    backend.run([wanted])
    kept = weakref.ref(wanted.hooks)
    del wanted
    gc.collect()
    assert kept() is None
