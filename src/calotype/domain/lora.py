"""Adapters that a request adds to a model, each with a scale."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from calotype.domain.request import Loras
from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError

SUFFIX = ".safetensors"
"""Of an adapter's file."""
MAX_LORAS = 8
"""Adapters in one request."""
MAX_SCALE = 10.0
"""Largest scale either way; 1 is what an adapter was trained for."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_ALLOWED = 'a list of {"id": string, "scale": number}, or text such as acme/pixel:0.8,acme/ink'


def parse_loras(name: str, raw: object) -> Loras:
    """Read adapters.

    Args:
        name: of the parameter, for errors.
        raw: a list of ``{"id", "scale"}`` or of ids, or a text ``id:scale,id``; a scale that is
            not given is 1.

    Raises:
        InvalidParameterError: anything else, too many, an id twice, or a scale out of range.
    """
    parts: Sequence[object]
    if isinstance(raw, str):
        parts = [part.strip() for part in raw.split(",") if part.strip()]
    elif isinstance(raw, list | tuple):
        parts = raw
    else:
        raise InvalidParameterError(f"{name} must be {_ALLOWED}, got {show_value(raw)}")
    if len(parts) > MAX_LORAS:
        raise InvalidParameterError(f"{name} must be at most {MAX_LORAS}, got {len(parts)}")
    loras = tuple(_lora(name, part) for part in parts)
    ids = [one for one, _ in loras]
    if len(set(ids)) < len(ids):
        raise InvalidParameterError(f"{name} must name each adapter once, got {show_value(ids)}")
    return Loras(loras)


def lora_file(folder: Path, id: str) -> Path:
    """Return where an adapter's file is, if it is there; a validated id leads nowhere else."""
    return folder / f"{id}{SUFFIX}"


def _lora(name: str, part: object) -> tuple[str, float]:
    """Read one adapter."""
    adapter: object = part
    scale: object = 1.0
    if isinstance(part, Mapping) and set(part) <= {"id", "scale"}:
        adapter, scale = part.get("id"), part.get("scale", 1.0)
    elif isinstance(part, str) and ":" in part:
        adapter, _, text = part.rpartition(":")
        scale = _number(text)
    if not isinstance(adapter, str) or not _ID.fullmatch(adapter):
        raise InvalidParameterError(f"{name} must be {_ALLOWED}, got {show_value(part)}")
    if (
        isinstance(scale, bool)
        or not isinstance(scale, int | float)
        or not -MAX_SCALE <= scale <= MAX_SCALE
    ):
        limits = f"a number in [-{MAX_SCALE:g}, {MAX_SCALE:g}]"
        raise InvalidParameterError(
            f"{name}: the scale of {adapter} must be {limits}, got {show_value(scale)}"
        )
    return adapter, float(scale) + 0.0  # makes -0.0 plain 0.0


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text
