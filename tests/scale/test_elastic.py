"""More replicas, fewer, others, and no store for a while: all of it under load."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from api.server import pixels_of
from redis_server import RedisServer, running
from scale.cluster import LIMIT_S, MARKS, Deployed, deployed, nodes, wait
from scale.load import Model
from scale.pressure import Pressure, under_load
from scale.site import begin_long, fresh

pytestmark = MARKS

CATALOG = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
parameters = {invert = {type = "boolean", default = true}}
options = {step_s = 0.05, steps = 4}

[[model]]
id = "test/double"
alias = "double"
backend = "fake"
scale = 2
options = {step_s = 0.02, steps = 2}

[[model]]
id = "test/slow"
alias = "slow"
backend = "fake"
options = {step_s = 0.1, steps = STEPS}
"""
ADDED = """
[[model]]
id = "test/added"
alias = "added"
backend = "fake"
"""
SETTINGS: dict[str, object] = {
    "cluster_ingresses": 2,
    "drain_s": LIMIT_S,
    "cluster_models": (
        "slow: replicas=1; double: replicas=2;"
        " invert: replicas=1-3 target=1 ongoing=4 up_s=1 down_s=2"
    ),
}
INVERT, DOUBLE = Model(name="invert", inverts=True), Model(name="double", scale=2)
AWAY_S = 3.0
STEP_S = 0.1
"""Of the long request."""
LONGER = 2.0
"""Than the start of the nodes."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a store."""
    with running(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="module")
def cluster(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Start two nodes; a long request takes longer than they did, as a new deployment will."""
    folder, began_s = tmp_path_factory.mktemp("elastic"), time.monotonic()
    with nodes(2) as started:
        steps = int(LONGER * (time.monotonic() - began_s) / STEP_S)
        catalog = CATALOG.replace("STEPS", str(steps))
        with deployed(started, folder, SETTINGS | {"store_url": store.url}, catalog) as site:
            yield site


def test_replicas_come_with_the_load_and_go_after_it(cluster: Deployed) -> None:
    def replicas() -> int:
        return len(cluster.replicas("model-invert"))

    assert replicas() == 1
    with under_load(cluster.nodes.urls, [INVERT], clients=12, seed=1, twins_every=0) as step:
        wait(lambda: replicas() == 3)
    with under_load(cluster.nodes.urls, [INVERT], clients=1, seed=2, twins_every=0) as rest:
        wait(lambda: replicas() == 1)
    assert_perfect(step)
    assert_perfect(rest)


def test_a_store_that_is_away_fails_no_request(cluster: Deployed, store: RedisServer) -> None:
    with under_load(cluster.nodes.urls, [INVERT, DOUBLE], seed=3) as pressure:
        wait(lambda: state_of_store(cluster) == "up")
        store.stop()
        wait(lambda: state_of_store(cluster) == "down")
        time.sleep(AWAY_S)
        store.start()
        wait(lambda: state_of_store(cluster) == "up")
    assert_perfect(pressure)
    assert pressure.report.cache["hit"] + pressure.report.cache["coalesced"] > 0


def test_an_update_fails_no_request_and_cuts_none_short(
    cluster: Deployed, store: RedisServer
) -> None:
    def replicas() -> set[int]:
        return {one.pid for one in cluster.replicas("model-slow")}

    settings = SETTINGS | {"store_url": store.url, "jpeg_quality": 10}
    catalog, before = (cluster.log.parent / "models.toml").read_text() + ADDED, replicas()
    with (
        ThreadPoolExecutor(2) as aside,
        under_load(cluster.nodes.urls, [INVERT, DOUBLE], seed=4) as pressure,
    ):
        fine = jpeg(cluster)
        upload, long = begin_long(cluster.nodes.urls[0], aside)
        updating = aside.submit(cluster.update, settings, catalog)
        wait(lambda: not replicas() <= before)
        assert not long.done(), "it ended before the update began"
        answer = long.result(LIMIT_S)
        updating.result(LIMIT_S)
        wait(lambda: replicas().isdisjoint(before))
        coarse = jpeg(cluster)
    assert_perfect(pressure)
    assert (answer.status_code, answer.headers["x-cache"]) == (200, "miss")
    assert np.array_equal(pixels_of(answer.content), pixels_of(upload))
    assert len(coarse) < len(fine)
    added = httpx.post(f"{cluster.nodes.urls[1]}/models/added", content=fresh(), timeout=LIMIT_S)
    assert added.status_code == 200
    assert added.headers["x-model-id"] == "test/added"


def jpeg(cluster: Deployed) -> bytes:
    """Return a JPEG of what a new picture becomes."""
    answer = httpx.post(
        f"{cluster.nodes.urls[0]}/models/double",
        content=fresh(),
        headers={"accept": "image/jpeg"},
        timeout=LIMIT_S,
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return answer.content


def state_of_store(cluster: Deployed) -> str:
    """Return what all servers say of the store; empty if they don't agree."""
    found = {
        httpx.get(f"{url}/ready", timeout=30).json().get("store", "") for url in cluster.nodes.urls
    }
    return found.pop() if len(found) == 1 else ""


def assert_perfect(pressure: Pressure) -> None:
    assert pressure.report.is_perfect, str(pressure)
    assert pressure.report.broken == 0, str(pressure)
