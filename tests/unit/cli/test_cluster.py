import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from calotype.scale.node import ENVIRONMENT, warn_of_missing

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
Invoke = Callable[..., Result]
ANY = "0.0.0.0"  # noqa: S104  never really listened on


@pytest.fixture(autouse=True)
def environment_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what commands tell Ray by their environment."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, os.environ.get(name, ENVIRONMENT[name]))


def test_the_file_for_a_cluster(invoke: Invoke) -> None:
    Path("c.toml").write_text("queue_size = 7\n")
    result = invoke("cluster", "config", "--config", "c.toml", "--cluster-models", "echo: cpus=1")
    assert (result.exit_code, result.stderr) == (0, "")
    (application,) = yaml.safe_load(result.stdout)["applications"]
    names = [one["name"] for one in application["deployments"]]
    assert sorted(names) == ["ingress", "model-echo", "models"]
    args = application["args"]
    assert (args["queue_size"], args["cluster_models"]) == (7, "echo: cpus=1")


def test_a_deployment_for_each_model(invoke: Invoke) -> None:
    (application,) = yaml.safe_load(invoke("cluster", "config", "--apart").stdout)["applications"]
    names = {one["name"] for one in application["deployments"]}
    assert {"model-echo", "model-double", "model-test-seeded", "model-upscale"} <= names
    assert "models" not in names


def test_a_manifest_with_a_store(invoke: Invoke) -> None:
    result = invoke("cluster", "config", "--kuberay", "--with-store", "--image", "registry/it:3")
    *store, service = yaml.safe_load_all(result.stdout)
    assert [one["kind"] for one in store] == ["PersistentVolumeClaim", "Deployment", "Service"]
    assert service["kind"] == "RayService"
    assert "image: registry/it:3" in result.stdout
    assert "Nobody is let in until the store has a token" in result.stdout


def test_the_image_of_this_version(invoke: Invoke) -> None:
    result = invoke("cluster", "config", "--kuberay", "--insecure")
    version = invoke("--version").stdout.split()[1]
    assert f"image: calotype:{version}\n" in result.stdout
    assert [one["kind"] for one in yaml.safe_load_all(result.stdout)] == ["RayService"]
    assert "Nobody is let in" not in result.stdout


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--image", "a"), 2, "--image and --with-store go with --kuberay"),
        (("--with-store",), 2, "--image and --with-store go with --kuberay"),
        (("--port", "0"), 2, "error: port must be the same at every node, got 0\n"),
        (("--host", ANY), 2, "no store with tokens: set store_url, or insecure"),
        (("--kuberay",), 2, "pods have no token file in common"),
        (("--kuberay", "--with-store", "--store-url", "redis://a:1/0"), 2, "names a store already"),
        (("--cluster-models", "nope: cpus=1"), 2, "names 'nope', which is no model"),
        (("--preload", "nope"), 1, "error: Model nope does not exist\n"),
    ],
)
def test_what_cannot_be_printed(
    invoke: Invoke, options: tuple[str, ...], status: int, said: str
) -> None:
    result = invoke("cluster", "config", *options)
    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout == ""


def test_the_word_insecure_opens_it(invoke: Invoke) -> None:
    assert invoke("cluster", "config", "--host", ANY, "--insecure").exit_code == 0


def test_tokens_that_other_nodes_would_not_see_are_refused(invoke: Invoke) -> None:
    invoke("token", "create", "a")
    result = invoke("cluster", "config", "--host", ANY)
    assert result.exit_code == 2
    assert "calotype token copy" in result.stderr


def test_a_server_that_joins_a_cluster_needs_a_store_with_tokens(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    result = invoke("serve", "--ray", "--host", ANY)
    assert result.exit_code == 2
    assert "set store_url, or insecure" in result.stderr
    assert "token create" not in result.stderr, "that would be a file of this machine"


def test_a_node_that_was_not_told_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    warn_of_missing()
    assert not caplog.messages
    monkeypatch.delenv("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH")
    warn_of_missing()
    (said,) = caplog.messages
    assert said.startswith(
        "Ray was started here without RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH:"
    )


def test_what_ray_is_told_can_be_read_by_a_shell(invoke: Invoke) -> None:
    lines = invoke("cluster", "environment").stdout.splitlines()
    pairs = [line.removeprefix("export ").partition("=") for line in lines]
    assert {name: value for name, _, value in pairs} == ENVIRONMENT


def test_ray_refuses_no_answer_for_its_size() -> None:
    # A message is 4 MiB at most, where nobody says otherwise: many a PNG is larger.
    name = "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"
    read = f"from ray.serve._private.constants import {name}; print({name})"
    command = [sys.executable, "-c", read]
    told = subprocess.run(
        command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert int(told.stdout) == -1  # none, as gRPC has it


def test_to_stop_needs_a_cluster(invoke: Invoke) -> None:
    result = invoke("cluster", "stop")
    assert result.exit_code == 2
    assert "RAY_ADDRESS must name the cluster" in result.stderr


@pytest.mark.parametrize("words", [("config",), ("stop",)])
def test_without_ray_it_says_how_to_get_it(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "calotype.scale.node.find_spec", lambda name: None if name == "ray" else found(name)
    )
    result = invoke("cluster", *words)
    assert result.exit_code == 2
    assert "pip install 'calotype[ray]'" in result.stderr
