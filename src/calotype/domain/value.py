"""From what a client sent to one value of its parameter's type."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from calotype.domain.base64 import decode_base64
from calotype.domain.blend import parse_blend
from calotype.domain.image import Size
from calotype.domain.lora import parse_loras
from calotype.domain.model import ParamSpec, ParamType
from calotype.domain.request import ParamValue
from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError

MAX_SIDE_PX = 16_384
"""Longest side that can be asked for."""

MAX_TEXT_CHARS = 10_000
"""Longest string parameter."""

MAX_INTEGER = 2**63 - 1
"""Largest integer that every runtime below holds."""

Note = Callable[[str, str], None]
"""Called with (what was changed, what strict requests are told instead)."""


def parse_value(spec: ParamSpec, raw: object, note: Note = lambda *_: None) -> ParamValue:
    """Check one parameter, and bring it to the one form that equal values share.

    Args:
        spec: the parameter.
        raw: anything JSON can hold but null; bytes for an image too.
        note: told when the value had to be changed.

    Raises:
        InvalidParameterError: a wrong type, out of range, or none of the choices.
        MalformedRequestError: an image that is not base64.
    """
    if spec.type == "blend":
        blend, scaled = parse_blend(spec.name, spec.choices, raw)
        if scaled:
            note(
                f"{spec.name} weights were scaled to sum to 1",
                f"{spec.name} weights must sum to 1, got {show_value(raw)}",
            )
        return blend
    if spec.type == "loras":
        return parse_loras(spec.name, raw)
    value = _PARSERS[spec.type](spec, raw)
    if spec.choices and value not in spec.choices:
        allowed = ", ".join(str(choice) for choice in spec.choices)
        raise _wrong(spec, f"one of {allowed}", raw)
    return value


def _string(spec: ParamSpec, raw: object) -> str:
    """Read a text; a list of negative prompts is joined, as the API this follows does."""
    if spec.name == "negative_prompt" and isinstance(raw, list | tuple):
        raw = ", ".join(raw) if all(isinstance(part, str) for part in raw) else raw
    if not isinstance(raw, str):
        raise _wrong(spec, "a string", raw)
    if len(raw) > MAX_TEXT_CHARS:
        raise InvalidParameterError(
            f"{spec.name} must have at most {MAX_TEXT_CHARS} characters, got {len(raw)}"
        )
    try:
        raw.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair; tokenizers cannot
        raise _wrong(spec, "valid Unicode", raw) from None
    return raw


def _number(spec: ParamSpec, raw: object) -> float:
    """Read a number; always a float, so that 1 and 1.0 are the same request."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _wrong(spec, "a number", raw)
    try:
        value = float(raw) + 0.0  # makes -0.0 plain 0.0
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise _wrong(spec, "a finite number", raw)
    if not _in_range(value, spec.minimum, spec.maximum):
        raise _wrong(spec, _range_text(spec.minimum, spec.maximum), raw)
    return value


def _integer(spec: ParamSpec, raw: object) -> int:
    """Read an integer; 4.0 is one, as JSON knows no difference."""
    whole = isinstance(raw, int) or (isinstance(raw, float) and raw.is_integer())
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not whole:
        raise _wrong(spec, "an integer", raw)
    value = int(raw)
    if not _in_range(value, spec.minimum, spec.maximum):
        raise _wrong(spec, _range_text(spec.minimum, spec.maximum), raw)
    if not _in_range(value, -MAX_INTEGER - 1, MAX_INTEGER):
        raise _wrong(spec, "an integer of 64 bits", raw)
    return value


def _boolean(spec: ParamSpec, raw: object) -> bool:
    """Read true or false."""
    if not isinstance(raw, bool):
        raise _wrong(spec, "true or false", raw)
    return raw


def _image(spec: ParamSpec, raw: object) -> bytes:
    """Read an encoded picture; its pixels are not looked at yet."""
    if isinstance(raw, bytes) and raw:
        return raw
    if not isinstance(raw, str):
        raise _wrong(spec, "a picture, base64-encoded", raw)
    return decode_base64(raw, spec.name)


def _size(spec: ParamSpec, raw: object) -> Size:
    """Read a width and a height."""
    if not isinstance(raw, Mapping) or set(raw) != {"width", "height"}:
        raise _wrong(spec, '{"width": integer, "height": integer}', raw)
    return Size(
        height_px=parse_side(f"{spec.name}.height", raw["height"]),
        width_px=parse_side(f"{spec.name}.width", raw["width"]),
    )


def parse_side(name: str, raw: object) -> int:
    """Read one side of a picture, pixels.

    Raises:
        InvalidParameterError: not an integer, or out of range.
    """
    return _integer(dataclasses.replace(_SIDE, name=name), raw)


def _in_range(value: float, low: float | None, high: float | None) -> bool:
    """Tell whether a number lies between bounds; None is no bound."""
    return (low is None or value >= low) and (high is None or value <= high)


def _range_text(low: float | None, high: float | None) -> str:
    """Say what a number must be."""
    low, high = (_neat(low), _neat(high))
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"in [{low}, {high}]"


def _neat(bound: float | None) -> float | None:
    """Show 1.0 as 1."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _wrong(spec: ParamSpec, allowed: str, raw: object) -> InvalidParameterError:
    """Name the parameter, what is allowed, and the value."""
    return InvalidParameterError(f"{spec.name} must be {allowed}, got {show_value(raw)}")


_SIDE = ParamSpec(name="side", type="integer", help="", minimum=1, maximum=MAX_SIDE_PX)

_PARSERS: Mapping[ParamType, Callable[[ParamSpec, object], ParamValue]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "image": _image,
    "size": _size,
}
