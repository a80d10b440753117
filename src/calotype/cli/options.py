"""Settings as command-line options."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from calotype.cli.main import DEBUG
from calotype.settings import MIB, Settings, load_settings

FOLDERS = ("data_dir", "cache_dir", "models_dir", "catalog_file")
"""What every command needs to find its files."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
_KINDS: Mapping[object, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT}


def setting_options(
    *names: str, defaults: Mapping[str, object] | None = None
) -> Callable[[_Command], _Command]:
    """Add options for settings; without names, for all of them.

    A value that isn't given reaches the command as None, so that the environment may say it.

    Args:
        names: of the settings.
        defaults: what the help says is the default, where the command has another.
    """
    knobs = {knob.name: knob for knob in dataclasses.fields(Settings)}

    def decorate(function: _Command) -> _Command:
        for name in reversed(names or tuple(knobs)):
            default = (defaults or {}).get(name, knobs[name].default)
            function = _option(knobs[name], default)(function)
        return function

    return decorate


def read_settings(given: Mapping[str, object], file: Path | None = None) -> Settings:
    """Join the options with the environment and a file.

    Raises:
        InvalidSettingError: one is unknown or out of range.
    """
    settings = load_settings(given, file)
    if settings.log_level == "debug":
        click.get_current_context().meta[DEBUG] = True
    return settings


def _option(knob: "dataclasses.Field[Any]", default: object) -> Callable[[_Command], _Command]:
    """Make the option of one setting."""
    flag = f"--{knob.name.replace('_', '-')}"
    choices = knob.metadata["choices"]
    kind = click.Choice(choices) if choices else _KINDS.get(knob.type, click.STRING)
    text = f"{_capital(knob.metadata['help'])}.{_limits(knob, default)}"
    if knob.type is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", knob.name, default=None, help=text)
    return click.option(flag, knob.name, type=kind, default=None, help=text)


def _limits(knob: "dataclasses.Field[Any]", default: object) -> str:
    """Say what is allowed, and the default."""
    said = []
    low, high = knob.metadata["minimum"], knob.metadata["maximum"]
    if high is not None:
        said.append(f"{low} to {high}")
    if default != "" and knob.type is not bool:
        said.append(f"default {_amount(knob.name, default)}")
    return f"  [{'; '.join(said)}]" if said else ""


def _amount(name: str, default: object) -> str:
    """Write a default as a person would."""
    if isinstance(default, int) and name.endswith("_bytes"):
        return f"{default}, {default // MIB} MiB"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
