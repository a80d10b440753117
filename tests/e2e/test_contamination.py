"""Many clients at once, some leaving, workers dying: nobody gets a pixel of anybody else's."""

import asyncio
import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from e2e.server import Server, serving

CATALOG = """
[[model]]
id = "t/batches"
backend = "fake"
[model.options]
steps = 4
step_s = 0.005

[[model]]
id = "t/enlarges"
backend = "fake"
scale = 3
[model.options]
steps = 2
step_s = 0.005
"""
MODELS = ("t/batches", "t/enlarges", "upscale-fast", "style")
CLIENTS = 32
ROUNDS = 6
LEAVE = 0.15
HEADERS = {"x-wait-for-model": "true", "x-use-cache": "false", "accept": "image/png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    options = ("--catalog-file", str(catalog), "--slots", "2", "--replicas", "2")
    with serving(folder, *options) as found:
        yield found


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    height, width = rng.choice([24, 40, 56], 2)
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(body: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


async def post(client: httpx.AsyncClient, model: str, upload: bytes) -> NDArray[np.uint8]:
    answer = await client.post(f"/models/{model}", content=upload)
    assert answer.status_code == 200, answer.text
    return pixels_of(answer.content)


async def test_nobody_gets_anything_of_anybody_else(server: Server, tmp_path: Path) -> None:
    del tmp_path
    uploads = {(who, model): picture(100 * who + n) for who in range(CLIENTS)
               for n, model in enumerate(MODELS)}  # fmt: skip
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=120, headers=HEADERS, limits=limits
    ) as client:
        alone = {key: await post(client, key[1], upload) for key, upload in uploads.items()}
        counts = {"right": 0, "left": 0}

        async def visit(who: int) -> None:
            chance = random.Random(who)  # noqa: S311
            turns = [model for _ in range(ROUNDS) for model in MODELS]
            chance.shuffle(turns)
            for model in turns:
                if chance.random() < LEAVE:
                    with contextlib.suppress(httpx.TimeoutException):
                        await client.post(
                            f"/models/{model}",
                            content=uploads[who, model],
                            timeout=chance.uniform(0.001, 0.2),
                        )
                    counts["left"] += 1
                    continue
                answer = await post(client, model, uploads[who, model])
                assert np.array_equal(answer, alone[who, model]), f"client {who}, {model}"
                counts["right"] += 1

        visits = asyncio.gather(*(visit(who) for who in range(CLIENTS)))
        killed = await _kill_one_of_each(server, visits)
        await visits
    assert killed >= 2, "no worker was killed, so no retry was tried"
    assert counts["right"] > CLIENTS * len(MODELS) * ROUNDS / 2
    assert counts["left"] > CLIENTS


async def _kill_one_of_each(server: Server, visits: "asyncio.Future[list[None]]") -> int:
    """Kill a worker of each model in turn: no job can lose its worker twice."""
    killed = 0
    for model in MODELS:
        await asyncio.wait((visits,), timeout=1.0)
        workers = psutil.Process(server.process.pid).children()
        for worker in [w for w in workers if w.cmdline()[-1] == model][:1]:
            worker.kill()
            killed += 1
    return killed
