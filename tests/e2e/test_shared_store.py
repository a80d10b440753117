"""Two server processes with one store, one of which dies."""

import io
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis
from PIL import Image

from e2e.server import START_S, Server, serving
from redis_server import RedisServer

CATALOG = """
[[model]]
id = "t/slow"
backend = "fake"
[model.options]
steps = 20
step_s = 0.1
"""
HEADERS = {"x-wait-for-model": "true", "accept": "image/png", "x-request-id": "mine"}


@pytest.fixture
def servers(tmp_path: Path, redis_server: RedisServer) -> Iterator[tuple[Server, Server]]:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    arguments = ("--catalog-file", str(catalog), "--store-url", redis_server.url)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        serving(tmp_path / "one", *arguments) as one,
        serving(tmp_path / "two", *arguments) as other,
    ):
        yield one, other


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def send(server: Server) -> httpx.Response:
    url = f"{server.url}/models/t/slow"
    return httpx.post(url, content=picture(), headers=HEADERS, timeout=60)


def until(true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + START_S
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_when_the_server_that_computes_is_killed_another_one_does(
    servers: tuple[Server, Server], redis_server: RedisServer
) -> None:
    one, other = servers
    with redis.Redis.from_url(redis_server.url) as store, ThreadPoolExecutor(2) as pool:
        leading = pool.submit(send, one)
        until(lambda: bool(store.keys("calotype:flight:*")))
        following = pool.submit(send, other)
        until(lambda: bool(store.pubsub_channels("calotype:landed:*")))
        one.signal(signal.SIGKILL)
        assert isinstance(leading.exception(), httpx.TransportError)
        response = following.result()
        assert response.status_code == 200
        assert response.headers["x-cache"] == "miss"
        assert send(other).headers["x-cache"] == "hit"
