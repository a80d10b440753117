"""A choice among numbered names, or a weighted mix of several: ``"great-wave:0.7,5:0.3"``."""

import difflib
import math
import re
from collections.abc import Sequence

from calotype.domain.request import Blend
from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError

MAX_CHARS = 10_000
"""Longest blend read."""

SUM_TOLERANCE = 1e-6
"""How far from 1 the weights may sum before they are scaled."""

NUMBER_PATTERN = r"[0-9]+"
WEIGHT_PATTERN = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"

_NUMBER = re.compile(NUMBER_PATTERN)
_WEIGHT = re.compile(WEIGHT_PATTERN)
_GAP = re.compile(r"[\s_-]+")
_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
_MAX_DIGITS = 9


def parse_blend(name: str, choices: Sequence[str | int], raw: object) -> tuple[Blend, bool]:
    """Read a number, a name, or a mix of them.

    Args:
        name: the parameter, for the message.
        choices: the names in the order of their numbers.
        raw: an integer, a string, or ``"CHOICE:WEIGHT,..."``; names in any case, with spaces,
            underscores or hyphens; a choice that comes twice counts with both weights.

    Returns:
        The blend, and whether its weights had to be scaled to sum to 1.

    Raises:
        InvalidParameterError: no such choice, or a weight that is not a finite number above 0.
    """
    if isinstance(raw, str) and len(raw) > MAX_CHARS:
        raise InvalidParameterError(
            f"{name} must have at most {MAX_CHARS} characters, got {len(raw)}"
        )
    if not isinstance(raw, str) or ":" not in raw:
        return ((_index(name, choices, raw), 1.0),), False
    weights: dict[int, float] = {}
    for part in raw.split(","):
        choice, _, weight = part.rpartition(":")
        index = _index(name, choices, choice)
        weights[index] = weights.get(index, 0.0) + _weight(name, part, weight.strip())
    return _scaled(name, raw, weights)


def blend_text(blend: Blend) -> str:
    """Write a blend the one way that reads back as itself: ``3:0.5,12:0.5``."""
    return ",".join(f"{index}:{weight!r}" for index, weight in blend)


def is_choice_name(name: object) -> bool:
    """Tell whether a blend's choice can have this name: lower case, hyphens, one letter or more."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _index(name: str, choices: Sequence[str | int], raw: object) -> int:
    """Return the number of one choice, given by number or name."""
    index = _number(raw)
    if index is None and isinstance(raw, str):
        wanted = _GAP.sub("-", raw.strip().lower())
        if wanted in choices:
            return choices.index(wanted)
    if index is not None and 0 <= index < len(choices):
        return index
    message = f"{name} must be a number in [0, {len(choices) - 1}] or a name"
    close = _closest(raw, choices)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise InvalidParameterError(f"{message}, got {show_value(raw)}{hint}")


def _number(raw: object) -> int | None:
    """Read a whole number, or None where it is something else."""
    if isinstance(raw, str):
        digits = raw.strip()
        return int(digits) if _NUMBER.fullmatch(digits) and len(digits) <= _MAX_DIGITS else None
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    return int(raw) if isinstance(raw, int) or raw.is_integer() else None


def _closest(raw: object, choices: Sequence[str | int]) -> list[str]:
    """Return the names most like a wrong one."""
    if not isinstance(raw, str):
        return []
    names = [str(choice) for choice in choices]
    return difflib.get_close_matches(_GAP.sub("-", raw[:64].strip().lower()), names)


def _weight(name: str, part: str, text: str) -> float:
    """Read one weight."""
    weight = float(text) if _WEIGHT.fullmatch(text) else math.nan
    if not (0 < weight < math.inf):
        raise InvalidParameterError(
            f"{name} must have finite weights above 0, got {show_value(part.strip())}"
        )
    return weight


def _scaled(name: str, raw: str, weights: dict[int, float]) -> tuple[Blend, bool]:
    """Make the weights sum to 1; one too small to count then is left out."""
    parts = sorted(weights.items())
    total = sum(weight for _, weight in parts)
    if not math.isfinite(total):
        raise InvalidParameterError(f"{name} must have smaller weights, got {show_value(raw)}")
    if abs(total - 1) <= SUM_TOLERANCE:
        return tuple(parts), False
    parts = [(index, weight / total) for index, weight in parts]
    return tuple((index, weight) for index, weight in parts if weight > 0), True
