"""The parameters that a catalog says a model takes."""

import re
from typing import cast, get_args

from calotype.catalog.table import Table
from calotype.domain.blend import is_choice_name
from calotype.domain.model import ParamSpec, ParamType
from calotype.domain.params import KNOWN, RESERVED
from calotype.domain.value import parse_value
from calotype.errors import RequestError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NUMERIC = ("number", "integer")
_WITH_CHOICES: dict[ParamType, type] = {"string": str, "number": int, "integer": int, "blend": str}


def parse_params(table: Table) -> tuple[ParamSpec, ...]:
    """Read ``[model.parameters.NAME]`` tables, and check each against its own default.

    Raises:
        InvalidCatalogError: a bad name, an unknown type or key, or a default that is not allowed.
    """
    return tuple(_param(table, name) for name in table)


def _param(parent: Table, name: str) -> ParamSpec:
    """Read one parameter."""
    if not _NAME.fullmatch(name):
        raise parent.error(f"{parent.name(name)} must be named in lower case")
    if name in RESERVED:
        raise parent.error(f"{parent.name(name)} is taken by every model already")
    table = parent.table(name)
    kind = cast(ParamType, table.choice("type", None, get_args(ParamType)))
    spec = ParamSpec(
        name=name,
        type=kind,
        help=table.text("help", KNOWN.get(name, "")),
        default=table.scalar("default"),
        required=table.flag("required", default=False),
        minimum=table.number("minimum"),
        maximum=table.number("maximum"),
        choices=_choices(table, kind),
    )
    table.finish()
    _check_range(table, spec)
    _check_default(table, spec)
    return spec


def _choices(table: Table, type: ParamType) -> tuple[str | int, ...]:
    """Read the allowed values, or the names of a blend's choices."""
    items = table.items("choices")
    if items and type not in _WITH_CHOICES:
        raise table.error(f"{table.name('choices')} does not go with type {type}")
    if type == "blend" and (not items or not all(map(is_choice_name, items))):
        raise table.wrong("choices", "names such as great-wave", items)
    if type in _WITH_CHOICES and any(_other(item, _WITH_CHOICES[type]) for item in items):
        allowed = "strings" if _WITH_CHOICES[type] is str else "integers"
        raise table.wrong("choices", f"an array of {allowed}", items)
    choices = cast(list[str | int], items)
    if len(set(choices)) < len(choices):
        raise table.wrong("choices", "different from each other", choices)
    return tuple(choices)


def _other(item: object, wanted: type) -> bool:
    """Tell whether a choice is of another type; true and false are no integers."""
    return isinstance(item, bool) or not isinstance(item, wanted)


def _check_range(table: Table, spec: ParamSpec) -> None:
    """Refuse bounds that make no sense."""
    low, high = spec.minimum, spec.maximum
    if spec.type not in _NUMERIC and (low is not None or high is not None):
        raise table.error(f"{table.name('minimum')} and maximum do not go with type {spec.type}")
    if low is not None and high is not None and low > high:
        raise table.wrong("minimum", f"at most the maximum {high}", low)


def _check_default(table: Table, spec: ParamSpec) -> None:
    """Refuse a default that a client could not send."""
    if spec.default is None:
        return
    if spec.required:
        raise table.error(f"{table.name('default')} does not go with required")
    if spec.type == "image":
        raise table.error(f"{table.name('default')} does not go with type image")
    try:
        parse_value(spec, spec.default)
    except RequestError as error:
        raise table.error(f"{table.name('default')}: {error}") from error
