"""Three nodes and a store under load, while replicas and nodes die: nobody notices."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from api.server import pixels_of
from redis_server import running
from scale.cluster import MARKS, SOON_S, Deployed, deployed, nodes, until
from scale.load import Model
from scale.pressure import under_load
from scale.site import Site, fresh, visiting

pytestmark = MARKS

CATALOG = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
parameters = {invert = {type = "boolean", default = true}}
options = {step_s = 0.02, steps = 2}

[[model]]
id = "test/double"
alias = "double"
backend = "fake"
scale = 2
options = {step_s = 0.05, steps = 4}

[[model]]
id = "test/echo"
alias = "echo"
backend = "fake"
"""
DEPLOYMENTS = {"ingress": 3, "model-invert": 2, "model-double": 2, "models": 2}
INVERT, DOUBLE, ECHO = (
    Model(name="invert", inverts=True),
    Model(name="double", scale=2),
    Model(name="echo"),
)
ROUND_S = 30.0
"""In which a node and two replicas die, and come back."""
ROUNDS = 6
"""With ``--long``: three minutes."""
TWINS = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Start three nodes, a server on each, and a store."""
    folder = tmp_path_factory.mktemp("chaos")
    settings = {"isolation": "process", "cluster_ingresses": DEPLOYMENTS["ingress"]}
    settings |= {"cluster_models": "invert: replicas=2; double: replicas=2; *: replicas=2"}
    with running(folder / "redis") as redis, nodes(3) as started:
        settings |= {"store_url": redis.url}
        with deployed(started, folder / "site", settings, CATALOG) as site:
            yield site


async def test_an_answer_is_cached_for_all_servers(cluster: Deployed) -> None:
    async with visiting(cluster) as site:
        upload, served = fresh(), set[int]()
        for turn, at in enumerate((0, 1, 2, 0)):
            answer = await site.run("double", f"shared-{turn}", at=at, upload=upload)
            # Who comes while the answer is on its way to the store waits for it.
            assert answer.headers["x-cache"] in ({"hit", "coalesced"} if turn else {"miss"})
            assert pixels_of(answer.content).shape == (16, 16, 3)
        for turn in range(4):
            served |= await logged(site, f"shared-{turn}")
        assert len(served) > 1, "one server got all requests"


async def test_identical_requests_at_different_servers_compute_once(cluster: Deployed) -> None:
    async with visiting(cluster) as site:
        before, upload, served = await runs(site), fresh(), set[int]()
        answers = await asyncio.gather(
            *(site.run("double", f"twin-{i}", at=i % 3, upload=upload) for i in range(TWINS))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        how = sorted(answer.headers["x-cache"] for answer in answers)
        assert how.count("miss") == 1
        assert set(how) <= {"miss", "coalesced", "hit"}
        assert await runs(site) - before == 1
        for i in range(TWINS):
            served |= await logged(site, f"twin-{i}")
        assert len(served) > 1, "one server got all requests"


def test_every_request_gets_its_one_answer_while_parts_die(
    cluster: Deployed, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    chance, models = random.Random(seed), (INVERT, DOUBLE, ECHO)  # noqa: S311
    rounds = ROUNDS if request.config.getoption("--long") else 1
    with capfd.disabled(), under_load(cluster.nodes.urls, models, seed=seed) as pressure:
        pressure.told.append(f"\nseed {seed}")
        for _ in range(rounds):
            end_s = time.monotonic() + ROUND_S
            suffer(cluster, chance, pressure.told)
            time.sleep(max(0.0, end_s - time.monotonic()))
    assert pressure.report.is_perfect, str(pressure)


def suffer(cluster: Deployed, chance: random.Random, told: list[str]) -> None:
    """Let a model's replica, a server and a node die at random; wait until all is back."""
    replica = chance.choice(("model-invert", "model-double", "models"))
    deaths: list[Callable[[Deployed, random.Random], str]] = [
        partial(kill_replica, replica),
        partial(kill_replica, "ingress"),
        kill_node,
    ]
    chance.shuffle(deaths)
    for die in deaths:
        time.sleep(chance.uniform(0.5, 4.0))
        told.append(die(cluster, chance))
    began_s = time.monotonic()
    while missing := wounds(cluster):
        assert time.monotonic() - began_s < SOON_S, "\n".join([*told, *missing])
        time.sleep(0.2)  # Ray Serve has no event for it
    told.append(f"whole again after {time.monotonic() - began_s:.1f} s")


def kill_replica(deployment: str, cluster: Deployed, chance: random.Random) -> str:
    cluster.kill_replica(deployment, chance)
    return f"killed a replica of {deployment}"


def kill_node(cluster: Deployed, chance: random.Random) -> str:
    """Kill a node, and have another in its place after a while."""
    port = chance.choice(sorted(cluster.nodes.workers))
    cluster.nodes.kill(port)
    time.sleep(chance.uniform(1.0, 4.0))
    cluster.nodes.add(port)
    return f"killed node {cluster.nodes.ports.index(port)}, which came back"


def wounds(cluster: Deployed) -> list[str]:
    """Tell which deployments lack replicas, and which nodes don't answer though they have some."""
    found = {name: cluster.at_nodes(name) for name in DEPLOYMENTS}
    counts = {name: sum(map(len, at_nodes.values())) for name, at_nodes in found.items()}
    lacking = [f"{name}: {n} replicas" for name, n in counts.items() if n != DEPLOYMENTS[name]]
    for port in cluster.nodes.ports:
        if any(at_nodes.get(port) for at_nodes in found.values()):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
            except httpx.HTTPError as error:
                lacking.append(f"node {cluster.nodes.ports.index(port)}: {error!r}")
    return lacking


async def runs(site: Site) -> float:
    """Return how often a model has run, on all its replicas."""
    name = "calotype_inference_duration_seconds_count"
    return sum(await site.number(name, "model-double", "test/double"))


async def logged(site: Site, name: str) -> set[int]:
    """Return which processes served requests of an id, once they say so."""

    async def is_logged() -> bool:
        return bool(site.servers(name))

    await until(is_logged)
    return site.servers(name)
