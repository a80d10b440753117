"""What crosses a cluster: leaving, deadlines, events, commands, errors, log lines and numbers."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from api.server import pixels_of
from redis_server import running
from scale.cluster import MARKS, Deployed, deployed, nodes, until
from scale.load import file_of
from scale.site import Site, across, fresh, numbers, visiting
from scale.trace_collector import TraceCollector, collecting

pytestmark = MARKS

CATALOG = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
parameters = {{invert = {{type = "boolean", default = true}}}}
options = {{step_s = 0.01, steps = 2}}

[[model]]
id = "test/slow"
alias = "slow"
backend = "fake"
options = {{step_s = 0.05, steps = 600, previews = 1}}

[[model]]
id = "test/hangs"
alias = "hangs"
backend = "fake"
options = {{fail = "hang"}}

[[model]]
id = "test/crashes"
alias = "crashes"
backend = "fake"
options = {{fail = "crash"}}

[[model]]
id = "test/dies"
alias = "dies"
backend = "fake"
options = {{fail = "kill", once = "{once}"}}
"""
MODELS = "invert: replicas=2; slow: ongoing=4; hangs: ongoing=4; crashes, dies: ongoing=4"
ROUTE = "POST /models/{id}"
SERVERS_PART = {ROUTE, "cache.get", "decode", "encode", "cache.put"}
"""Spans of what the server in front does itself."""
LARGE_PX = 1700
"""Squared and times three, more than goes in a message."""


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, collector: TraceCollector
) -> Iterator[Deployed]:
    """Start three nodes, a server on each, and a store."""
    folder = tmp_path_factory.mktemp("cluster")
    with running(folder / "redis") as redis, nodes(3) as started:
        settings = {"store_url": redis.url, "isolation": "process", "stop_s": 1}
        settings |= {"cluster_ingresses": 3, "cluster_models": MODELS}
        settings |= {"trace_url": collector.url, "trace_share": 0}  # only whom a client has traced
        catalog = CATALOG.format(once=folder / "died")
        with deployed(started, folder / "site", settings, catalog) as site:
            yield site


@pytest.fixture
async def site(cluster: Deployed) -> AsyncIterator[Site]:
    """Use the cluster, and leave it idle."""
    async with visiting(cluster) as site:
        yield site
        await until(site.is_idle)


async def test_a_client_that_leaves_takes_its_job_along(site: Site) -> None:
    running = asyncio.create_task(site.run("slow", "leaver"))
    await site.runs("leaver")
    running.cancel()
    await asyncio.wait((running,))
    await until(site.is_idle)
    name = "calotype_cancelled_compute_seconds_total"
    assert sum(await site.number(name, "model-slow", "test/slow")) > 0
    state = (await site.client.get(f"{site.urls[1]}/requests/leaver")).json()
    assert (state["state"], state["error"]["error"]) == ("cancelled", "the client left")


async def test_a_deadline_ends_the_job_at_its_replica(site: Site) -> None:
    answer = await site.run("hangs", x_deadline_ms="5000")
    assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")

    async def is_killed() -> bool:
        name = "calotype_worker_kills_total"
        return sum(await site.number(name, "model-hangs", "test/hangs")) == 1

    await until(is_killed)


async def test_events_and_cancelling_cross_from_one_server_to_another(site: Site) -> None:
    async def act(name: str, headers: dict[str, str]) -> None:
        running = asyncio.create_task(site.run("slow", name))
        url = f"{site.urls[1]}/requests/{name}"
        told: list[str] = []
        async with site.client.stream("GET", f"{url}/events", headers=headers) as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data: "):
                    continue
                state = json.loads(line.removeprefix("data: "))
                told.append(state["state"])
                if state["preview"] and told.count("running") > 4:
                    break
        gone = await site.client.delete(url, headers=headers)
        assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
        answer = await running
        assert (answer.status_code, answer.json()["error"]) == (409, "the request was cancelled")

    await across(site, act)


async def test_an_operator_cancels_at_any_server(site: Site) -> None:
    async def act(name: str, headers: dict[str, str]) -> None:
        running = asyncio.create_task(site.run("slow", name))
        await site.runs(name)
        url = f"{site.urls[1]}/requests/{name}/cancel"
        said = await site.client.post(url, headers=headers)
        assert said.json() == {"request_id": name, "cancelled": 1}
        assert "an operator" in (await running).json()["error"]

    await across(site, act)


async def test_the_picture_of_a_job_is_fetched_at_another_server(site: Site) -> None:
    async def act(name: str, headers: dict[str, str]) -> None:
        upload, told = fresh(), {"prefer": "respond-async"}
        begun = await site.client.post(
            f"{site.urls[0]}/models/invert", content=upload, headers=told | {"x-request-id": name}
        )
        assert begun.status_code == 202
        url = f"{site.urls[1]}/requests/{name}"
        answer = await site.client.get(f"{url}/result", headers=headers | {"prefer": "wait=30"})
        assert answer.status_code == 200
        assert np.array_equal(pixels_of(answer.content), 255 - pixels_of(upload))

    await across(site, act)


async def test_models_are_loaded_and_unloaded_at_all_replicas(site: Site) -> None:
    async def loaded() -> list[float]:
        return await site.number("calotype_models_loaded", "model-invert")

    gone = await site.client.post(f"{site.urls[0]}/models/invert/unload")
    assert gone.json() == {"model": "test/invert", "state": "unloaded"}
    assert await loaded() == [0, 0]
    there = await site.client.post(f"{site.urls[1]}/models/invert/load")
    assert (there.status_code, there.json()["state"]) == (200, "loaded")
    assert await loaded() == [1, 1]


async def test_a_replicas_error_comes_back_as_on_one_machine(site: Site) -> None:
    answer = await site.run("crashes", "crasher")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "The model failed; the server's log says why",
        "error_type": "backend",
    }
    assert "secret" not in answer.text


async def test_a_job_whose_model_died_runs_again_under_its_id(site: Site) -> None:
    answer = await site.run("dies", "survivor")
    assert answer.status_code == 200
    assert await site.number("calotype_job_retries_total", "model-crashes", "test/dies") == [1]

    async def is_logged_everywhere() -> bool:
        kinds = {kind for kind, _ in site.deployed.mentions("survivor")}
        return kinds == {"ingress", "model-crashes"}

    await until(is_logged_everywhere)


@pytest.mark.parametrize("side_px", [1300, LARGE_PX], ids=["message", "object"])
async def test_a_large_picture_comes_and_goes(site: Site, side_px: int) -> None:
    # Noise, so that its file is as large as its pixels: one message of the answer, 5 or 8 MiB.
    shape = (side_px, side_px, 3)
    pixels = np.random.default_rng(side_px).integers(0, 256, shape, dtype=np.uint8)
    url = f"{site.urls[0]}/models/invert"
    answer = await site.client.post(url, content=file_of(pixels))
    assert answer.status_code == 200
    assert np.array_equal(pixels_of(answer.content), 255 - pixels)


async def test_any_server_shows_the_numbers_of_all(site: Site) -> None:
    await asyncio.gather(*(site.run("invert", at=at) for at in range(3)))
    for at in range(3):
        page = await site.page(at)
        found = numbers(page, "calotype_models_loaded")
        kinds = sorted(name.rpartition("-")[0] for name in found)
        models = [*["anchor"] * 3, "crashes", "hangs", "invert", "invert", "slow"]
        assert kinds == ["ingress"] * 3 + [f"model-{name}" for name in models] + ["models"]
        served = numbers(page, "calotype_requests_total", "test/invert")
        assert sum(served.values()) >= 3
        assert "ray_component_cpu_percentage{" in page
        assert page.count("# TYPE calotype_requests_total counter") == 1


async def test_a_clients_trace_goes_on_at_the_server_and_at_the_replica(
    site: Site, collector: TraceCollector
) -> None:
    trace_id, client = secrets.token_hex(16), secrets.token_hex(8)
    answer = await site.run("invert", "traced", traceparent=f"00-{trace_id}-{client}-01")
    assert answer.status_code == 200

    async def has_come() -> bool:
        return {"encode", "run", "step", ROUTE} <= {one.name for one in collector.of(trace_id)}

    await until(has_come)
    found = {one.span_id: one for one in collector.of(trace_id)}
    (root,) = [one for one in found.values() if one.parent_id == client]
    assert {one.process for one in found.values() if one.name in SERVERS_PART} == {root.process}
    (run,) = [one for one in found.values() if one.name == "run"]
    steps = {(one.parent_id, one.process) for one in found.values() if one.name == "step"}
    assert root.name == ROUTE
    assert run.parent_id == root.span_id
    assert steps == {(run.span_id, run.process)}
    assert run.process in {one.pid for one in site.deployed.replicas("model-invert")}

    async def is_logged() -> bool:
        return site.servers("traced") == {root.process}

    await until(is_logged)


async def test_who_chose_no_id_has_nothing_kept(site: Site) -> None:
    answer = await site.run("invert")
    made = answer.headers["x-request-id"]
    assert (await site.client.get(f"{site.urls[1]}/requests/{made}")).status_code == 404
    await site.run("invert", "chosen")
    assert (await site.client.get(f"{site.urls[1]}/requests/chosen")).status_code == 200
