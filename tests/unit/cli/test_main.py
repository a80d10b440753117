import importlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result

from calotype.cli.main import COMMANDS
from calotype.errors import MissingWeightsError

Invoke = Callable[..., Result]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_the_line_that_the_list_shows(
    invoke: Invoke, name: str
) -> None:
    result = invoke(name, "-h")
    assert result.exit_code == 0
    assert "calotype" in result.stdout
    command = importlib.import_module(f"calotype.cli.{COMMANDS[name].module}").command
    assert command.name == name
    assert command.short_help == COMMANDS[name].line


def test_the_list_of_commands(invoke: Invoke) -> None:
    listed = invoke("--help").stdout
    assert all(entry.line in listed for entry in COMMANDS.values())
    assert "Examples:" in listed


def test_the_version(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("calotype 0.")


def test_an_unknown_command(invoke: Invoke) -> None:
    result = invoke("paint")
    assert result.exit_code == 2
    assert "No such command 'paint'" in result.stderr


def test_errors_are_one_line(invoke: Invoke) -> None:
    result = invoke("models", "show", "nope")
    assert result.exit_code == 1
    assert result.stderr == "error: Model nope does not exist\n"


def test_a_wrong_setting_exits_with_2(invoke: Invoke) -> None:
    result = invoke("serve", "--port", "70000")
    assert result.exit_code == 2
    assert result.stderr == "error: port must be in [0, 65535], got 70000\n"


def test_debug_shows_where_an_error_comes_from(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MissingWeightsError("gone")

    monkeypatch.setattr("calotype.cli.models.open_catalog", broken)
    assert invoke("models", "list").stderr == "error: gone\n"
    with pytest.raises(MissingWeightsError):
        invoke("--debug", "models", "list")


def test_the_log_level_debug_shows_it_too(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MissingWeightsError("gone")

    monkeypatch.setenv("CALOTYPE_LOG_LEVEL", "debug")
    monkeypatch.setattr("calotype.cli.models.open_catalog", broken)
    with pytest.raises(MissingWeightsError):
        invoke("models", "list")


def test_no_engine_is_imported_to_start() -> None:
    code = (
        "import sys, calotype.cli.serve\n"
        "found = {'openvino', 'huggingface_hub', 'tqdm', 'ncnn'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, calotype.errors\n"
        "found = {'numpy', 'pyvips', 'asyncio', 'click'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
