"""What the soak test asks for: models, requests, and the right answer to each."""

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import pictures
from http1 import LostError, Pool, post

CATALOG = """
[[model]]
id = "soak/batches"
backend = "fake"
[model.options]
step_s = 0.002

[[model]]
id = "soak/slow"
backend = "fake"
[model.options]
steps = 10
step_s = 0.01

[[model]]
id = "soak/inverts"
backend = "fake"
[model.parameters.invert]
type = "boolean"
help = "Invert the picture."
default = false
"""
MODELS = ("soak/batches", "soak/slow", "soak/inverts", "style", "upscale-fast")
PARAMETERS: Mapping[str, tuple[dict[str, object], ...]] = {
    "soak/inverts": ({"invert": True}, {"invert": False}),
    "style": ({"style": "neon"}, {"style": 3, "strength": 0.5}, {"preserve_color": True}),
    "upscale-fast": ({"scale": 2}, {"scale": 4}),
}
SIDES_PX = (24, 40, 64, 96)
"""Few, so that pictures that share a batch are common."""
CASES = 24
"""Of each model; few, so that the server's cache is full before its memory is looked at."""
CACHED = 0.1
"""Share of requests that the cache may answer."""
DEADLINE_S = 30.0
HEADERS = {
    "accept": "image/png",
    "x-wait-for-model": "true",
    "x-deadline-ms": f"{DEADLINE_S * 1e3:.0f}",
}
GIVE_UP_S = DEADLINE_S + 15.0


@dataclass(frozen=True, slots=True)
class Case:
    """A picture, what is done to it, and by which model."""

    model: str
    body: bytes

    def request(self, name: str, *, use_cache: bool = False) -> bytes:
        """Write the request under an id."""
        more = {"x-request-id": name, "x-use-cache": "true" if use_cache else "false"}
        return post(f"/models/{self.model}", self.body, {**HEADERS, **more})


@dataclass(frozen=True, slots=True)
class Bad:
    """A request that is wrong, and the status that says so."""

    case: Case
    status: int


def make_cases(seed: int) -> list[Case]:
    """Draw as many cases for each model."""
    chance = random.Random(seed)  # noqa: S311
    return [
        Case(model, _body(chance, PARAMETERS.get(model))) for model in MODELS for _ in range(CASES)
    ]


def _body(chance: random.Random, choices: tuple[dict[str, object], ...] | None) -> bytes:
    """Draw a picture: as it is, or in JSON with parameters."""
    height, width = chance.choice(SIDES_PX), chance.choice(SIDES_PX)
    picture = pictures.noise(height, width, seed=chance.getrandbits(32))
    return picture if choices is None else _json(picture, chance.choice(choices))


def _json(picture: bytes, parameters: dict[str, object]) -> bytes:
    inputs = base64.b64encode(picture).decode()
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def make_bad() -> list[Bad]:
    """Return a wrong request of each kind."""
    picture = pictures.noise(24, 24, seed=0)
    return [
        Bad(Case("soak/batches", b"\xff\xd8\xff" + b"garbage" * 50), 400),
        Bad(Case("style", b"no picture at all"), 400),
        Bad(Case("upscale-fast", _json(picture, {"scale": 7})), 422),
        Bad(Case("soak/inverts", _json(picture, {"invert": "perhaps"})), 422),
        Bad(Case("soak/nothing", picture), 404),
    ]


async def answer_alone(pool: Pool, cases: list[Case]) -> dict[Case, NDArray[np.uint8]]:
    """Have each case computed while nothing else is; return the right answers.

    Raises:
        SystemExit: one was not computed.
    """
    right = {}
    for number, case in enumerate(cases):
        try:
            answer = await pool.ask(case.request(f"alone-{number}"), 4 * GIVE_UP_S)
        except (LostError, OSError) as error:
            raise SystemExit(f"{case.model}: no answer alone: {error!r}") from error
        if answer.status != 200:
            raise SystemExit(f"{case.model}: {answer.status} alone: {answer.body[:200]!r}")
        right[case] = pictures.pixels_of(answer.body)
    return right
