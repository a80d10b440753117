"""What `calotype cluster config` prints, deployed by Ray's own command on a Ray of its own."""

import io
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from e2e.server import COMMAND, clean_environment
from ports import free_port
from scale.cluster import FAKE
from scale.ray_node import BIN, Head, head

pytestmark = pytest.mark.timeout(420)

DEPLOY_S = 180.0
"""Far more than it takes on a machine that is busy with something else."""
PLACES = "invert: replicas=1-2 ongoing=5 up_s=1; *: replicas=1"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's environment, with two models in a catalog."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "catalog.toml").write_text(FAKE, encoding="utf-8")
    said = {"CALOTYPE_CATALOG_FILE": str(folder / "catalog.toml"), "CALOTYPE_ISOLATION": "thread"}
    return clean_environment(folder) | said


@pytest.fixture(scope="module")
def cluster(environ: dict[str, str]) -> Iterator[Head]:
    with head(environ) as one:
        yield one


def run(
    environ: Mapping[str, str], *command: str, status: int = 0
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def post(url: str, body: bytes) -> bytes:
    """Ask until there is an answer: `serve deploy` doesn't wait until it is done."""
    give_up_s = time.monotonic() + DEPLOY_S
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:  # noqa: S310
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.2)  # it has no event for it


def deployments(one: Head) -> dict[str, dict[str, Any]]:
    """Return what Ray says of the deployments that run."""
    running: dict[str, dict[str, Any]] = one.told()["applications"]["calotype"]["deployments"]
    return {name: told["deployment_config"] for name, told in running.items()}


def unlike(asked: dict[str, Any], told: dict[str, Any]) -> list[str]:
    """Return the numbers that aren't as asked; what nobody asked for is Ray's own."""
    found = []
    for key, value in asked.items():
        if isinstance(value, dict):
            found += unlike(value, told.get(key) or {})
        elif told.get(key) != value:
            found.append(f"{key} is {told.get(key)}, not {value}")
    return found


def edit(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Change numbers, as an operator does; return the deployments in the file."""
    (application,) = config["applications"]
    found = {one["name"]: one for one in application["deployments"]}
    invert, models = found["model-invert"], found["models"]
    assert invert["autoscaling_config"].items() >= {"min_replicas": 1, "max_replicas": 2}.items()
    invert |= {"num_replicas": 2, "autoscaling_config": None, "max_ongoing_requests": 4}
    models |= {"num_replicas": None, "autoscaling_config": {"min_replicas": 1, "max_replicas": 3}}
    return found


def test_an_address_that_something_else_has(cluster: Head, environ: dict[str, str]) -> None:
    joined = environ | cluster.environ | {"RAY_ADDRESS": cluster.address}
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serve = (*COMMAND, "serve", "--ray", "--detach", "--port", str(port))
        said = run(joined, *serve, status=2).stderr
    last = said.splitlines()[-1]
    assert last.startswith(f"error: Ray cannot listen on 127.0.0.1 port {port}: something else")


def test_ray_deploys_what_is_printed_and_it_can_be_taken_off(
    cluster: Head, environ: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    options = ("--port", str(port), "--cluster-models", PLACES)
    config = yaml.safe_load(run(environ, *COMMAND, "cluster", "config", *options).stdout)
    asked = edit(config)
    file = tmp_path / "calotype.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")

    run(
        environ | cluster.environ,
        str(BIN / "serve"),
        "deploy",
        str(file),
        "--address",
        cluster.dashboard,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    sent = io.BytesIO()
    Image.fromarray(pixels).save(sent, "PNG")
    answer = post(f"http://127.0.0.1:{port}/models/invert", sent.getvalue())
    with Image.open(io.BytesIO(answer)) as image:
        assert np.array_equal(np.asarray(image), 255 - pixels)

    running = deployments(cluster)
    assert running.keys() == asked.keys() == {"model-invert", "models", "ingress"}
    for name, numbers in asked.items():
        assert unlike(numbers, running[name]) == [], name

    joined = environ | cluster.environ | {"RAY_ADDRESS": cluster.address}
    stop = (*COMMAND, "cluster", "stop")
    assert "calotype is off the cluster" in run(joined, *stop).stderr
    assert "calotype was not on the cluster" in run(joined, *stop).stderr
