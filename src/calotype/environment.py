"""Variables of the environment that are others': what our libraries and processes are told."""

import os
from collections.abc import Iterable, Mapping


def tell_children(values: Mapping[str, str]) -> None:
    """Say something to libraries that are not imported yet, and to the processes that we start.

    Args:
        values: by variable; what the operator has set stays.
    """
    for name, value in values.items():
        os.environ.setdefault(name, value)


def hide_from_children(variables: Iterable[str]) -> None:
    """Keep variables that this process was started with from those that it starts."""
    for name in variables:
        os.environ.pop(name, None)


def untold(variables: Iterable[str]) -> list[str]:
    """Return those that this process was not started with."""
    return sorted(set(variables) - os.environ.keys())


def ray_address() -> str:
    """Return the address of the cluster that Ray's own variable names; empty for none."""
    return os.environ.get("RAY_ADDRESS", "")
