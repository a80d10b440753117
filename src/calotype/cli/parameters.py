"""A model's parameters as command-line options, and their text as values."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from calotype.domain import spelling
from calotype.domain.chain import Chain
from calotype.domain.params import KNOWN

HELP = {
    "style_image": "Picture in whose style the input is repainted.",
    "mask_image": "Picture of what to repaint: white is repainted.",
    "target_size": "Exact size of the result, such as 800x600 (width x height).",
}
"""Where the command line differs from the API."""

METAVARS = {"style_image": "FILE", "mask_image": "FILE", "target_size": "WxH"}
FLAGS = frozenset({"preserve_color"})
LEFT_OUT = frozenset({"width", "height", "output_format"})
"""Said by --target-size and --format."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def parameter_options(function: _Command) -> _Command:
    """Add an option for every parameter that some model takes, and ``-p`` for any other."""
    function = click.option(
        "-p", "--param", "others", metavar="[STAGE.]NAME=VALUE", multiple=True,
        help="Any other parameter of the model, or of one stage of a chain; repeat it for several.",
    )(function)  # fmt: skip
    for name in sorted(set(KNOWN) - LEFT_OUT, reverse=True):
        flag = f"--{name.replace('_', '-')}"
        text = HELP.get(name, KNOWN[name])
        if name in FLAGS:
            function = click.option(
                f"{flag}/--no-{flag[2:]}", f"param_{name}", default=None, help=text
            )(function)
        else:
            metavar = METAVARS.get(name, "VALUE")
            function = click.option(flag, f"param_{name}", metavar=metavar, help=text)(function)
    return function


def read_parameters(
    chain: Chain, options: Mapping[str, object], others: tuple[str, ...]
) -> dict[str, object]:
    """Join the options to what a request carries.

    Args:
        chain: what will run; its models say of what types their parameters are.
        options: as ``parameter_options`` names them; None means not given.
        others: ``NAME=VALUE`` texts, or ``STAGE.NAME=VALUE``; they beat the options.

    Raises:
        click.UsageError: a text without ``=``.
        InvalidParameterError: a size that isn't one.
        OSError: an image parameter's file can't be read.
    """
    given: dict[str, object] = {
        name.removeprefix("param_"): value
        for name, value in options.items()
        if name.startswith("param_") and value is not None
    }
    tables: dict[str, dict[str, object]] = {}
    for text in others:
        name, found, value = text.partition("=")
        if not found or not name.strip():
            raise click.UsageError(f"-p takes NAME=VALUE, got {text}")
        stage, _, own = name.strip().rpartition(".")
        if stage in chain.addresses:
            tables.setdefault(stage, {})[_spelt(own)] = value
        else:
            given[_spelt(name)] = value
    return spelling.read_parameters(chain, given, tables, _read_file)


def _spelt(name: str) -> str:
    """Spell a parameter as the API does."""
    return name.strip().replace("-", "_")


def _read_file(name: str, path: str) -> bytes:
    """Read the file of an image parameter."""
    del name
    return Path(path).read_bytes()
