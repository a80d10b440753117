"""From the parameters a client sent to the ones a model runs with."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calotype.domain.blend import blend_text
from calotype.domain.image import Size
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.request import FORMATS, Loras, ParamValue, Stage
from calotype.domain.text import printable
from calotype.domain.value import MAX_INTEGER, parse_side, parse_value
from calotype.errors import InvalidParameterError, MalformedRequestError

KNOWN: Mapping[str, str] = {
    "guidance_scale": "How closely the result follows the prompt.",
    "height": "Height of the result in pixels, together with width; the same as target_size.",
    "image_guidance_scale": "How closely the result follows the input picture.",
    "loras": "Adapters to add: a list of {id, scale}, or text such as acme/pixel:0.8,acme/ink.",
    "mask_blur": "Pixels around the mask over which the repainted fades into the picture.",
    "mask_image": "Picture of what to repaint, base64-encoded: white is repainted.",
    "negative_prompt": "What the result must not show.",
    "noise_level": "Noise added to the picture before it is enlarged; more invents more detail.",
    "num_inference_steps": "Denoising steps; more is slower and finer.",
    "output_format": "File format of the result; beats the Accept header.",
    "preserve_color": "Keep the colours of the input picture.",
    "prompt": "What to do with the picture, or what it shows.",
    "scale": "How many times larger the result is, per side.",
    "seed": "Number that random draws start from; drawn when absent.",
    "strength": "How far the result may move from the input, 0 to 1.",
    "style": "Built-in style by name or number, or a blend such as 3:0.5,12:0.5.",
    "style_image": "any picture, base64-encoded",
    "target_size": "Exact size of the result in pixels.",
    "true_cfg_scale": "How strongly the negative prompt counts; up to 1 it doesn't.",
    "width": "Width of the result in pixels, together with height; the same as target_size.",
}
"""Every parameter that some model of Calotype takes, and what it means."""

TARGET_SIZE = ParamSpec(name="target_size", type="size", help=KNOWN["target_size"])
OUTPUT_FORMAT = ParamSpec(
    name="output_format", type="string", help=KNOWN["output_format"], choices=FORMATS
)
COMMON = (TARGET_SIZE, OUTPUT_FORMAT)
"""What every model takes, whatever it declares."""

RESERVED = frozenset({"target_size", "output_format", "width", "height"})
"""Names that no model can declare for itself."""

MAX_WARNINGS = 20
"""Warnings an answer carries; each is a header."""

_NAME_CHARS = 64
_SHOWN_BYTES = 3900
_SHOWN_CHARS = (200, 100, 50, 20)
_PREFIX = "parameters; "


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a request runs with."""

    values: Mapping[str, ParamValue]
    """Every parameter of the model and the common ones; None: neither given nor a default."""
    warnings: tuple[str, ...]
    """What was ignored or changed; printable ASCII, one header each."""


class Notes:
    """Collects warnings, or refuses the first where the client asked for that.

    Args:
        strict: refuse.
        where: stands before the parameter's name in each warning.
    """

    def __init__(self, *, strict: bool, where: str = "") -> None:
        self.warnings: list[str] = []
        self._strict, self._where = strict, where

    def add(self, warning: str, refusal: str) -> None:
        """Take one note."""
        if self._strict:
            raise InvalidParameterError(refusal)
        self.warnings.append(f"{_PREFIX}{self._where}{warning}")

    def add_ignored(self, names: Sequence[str], taker: str, own: Iterable[str]) -> None:
        """Note what was sent and is not used.

        Args:
            names: of the parameters.
            taker: the model, or the models, that could have used them.
            own: names that were perhaps meant.
        """
        own = list(own)
        for name in names[:MAX_WARNINGS]:
            shown_name = printable(name, _NAME_CHARS) or '""'
            if name in KNOWN:
                reason = f"{taker} takes no {name.replace('_', ' ')}"
                refusal = f"{name} is refused: {reason}"
            else:
                reason = f"not a parameter of Calotype{_hint(name, own)}"
                refusal = f"{shown_name} is {reason}"
            self.add(f"{shown_name} was ignored: {reason}", refusal)
        self.count(len(names) - MAX_WARNINGS)

    def count(self, more: int) -> None:
        """Say how many warnings there would be beyond those that an answer carries."""
        if more > 0:
            self.warnings.append(f"{_PREFIX}and {more} more were ignored")


def apply_params(
    spec: ModelSpec, raw: Mapping[str, object], *, strict: bool = False, where: str = ""
) -> Applied:
    """Check what was sent, fill in the defaults, and say what is ignored.

    Args:
        spec: the model.
        raw: parameters as sent; None counts as not given.
        strict: refuse what would otherwise be ignored or changed with a warning.
        where: stands before the parameter's name in every message. E.g. ``upscale.``.

    Raises:
        InvalidParameterError: a wrong type or range, one missing, or one refused by ``strict``.
        MalformedRequestError: an image that is not base64.
    """
    notes = Notes(strict=strict, where=where)
    try:
        values = _checked(spec, raw, notes)
    except (InvalidParameterError, MalformedRequestError) as error:
        if not where:
            raise
        raise type(error)(f"{where}{error}") from error
    return Applied(values=values, warnings=tuple(notes.warnings))


def _checked(spec: ModelSpec, raw: Mapping[str, object], notes: Notes) -> dict[str, ParamValue]:
    """Return a value for every parameter of the model."""
    rest = {name: value for name, value in raw.items() if value is not None}
    size = _take_size(rest)
    values: dict[str, ParamValue] = {}
    for param in all_params(spec):
        sent = rest.pop(param.name, None)
        if param is OUTPUT_FORMAT and isinstance(sent, str):
            sent = "jpeg" if sent.strip().lower() == "jpg" else sent.strip().lower()
        if sent is None and param.required:
            raise InvalidParameterError(f"{param.name} is required by {spec.name}: {param.help}")
        chosen = param.default if sent is None else sent
        values[param.name] = None if chosen is None else parse_value(param, chosen, notes.add)
    values["target_size"] = _agreed_size(size, values["target_size"])
    own = [param.name for param in all_params(spec)]
    notes.add_ignored(list(rest), spec.name, (*own, *sorted(RESERVED)))
    return values


def all_params(spec: ModelSpec) -> tuple[ParamSpec, ...]:
    """Return every parameter a model takes: its own, then the common ones."""
    return (*(_bounded(param) for param in spec.params), *COMMON)


def canonical(values: Mapping[str, ParamValue]) -> str:
    """Write validated parameters so that equal ones give equal text: for cache keys.

    Args:
        values: as ``apply_params`` returns them, in any order.
    """
    plain = {name: _plain(value) for name, value in values.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def shown(stages: Sequence[Stage]) -> str:
    """Write what was really used, for the header ``x-parameters-applied``.

    Args:
        stages: the model's parameters come first, in the order it declares them; those of a chain
            are in an object for each stage.

    Returns:
        ASCII JSON below 4 kB: None left out, images as short digests, long strings cut.
    """
    for limit in _SHOWN_CHARS:
        tables = {stage.label: _used(stage, limit) for stage in stages}
        text = json.dumps(tables.get("", tables))
        if len(text) <= _SHOWN_BYTES:
            return text
    return "{}"


def _bounded(param: ParamSpec) -> ParamSpec:
    """Give a seed its range, which is the same for every model."""
    if param.name != "seed" or param.type != "integer":
        return param
    low = 0 if param.minimum is None else param.minimum
    high = MAX_INTEGER if param.maximum is None else param.maximum
    return dataclasses.replace(param, minimum=low, maximum=high)


def _take_size(rest: dict[str, object]) -> Size | None:
    """Take ``width`` and ``height``, the older spelling of ``target_size``."""
    sides = {name: rest.pop(name) for name in ("width", "height") if name in rest}
    if not sides:
        return None
    if len(sides) == 1:
        raise InvalidParameterError(f"width and height come together, got only {next(iter(sides))}")
    return Size(
        height_px=parse_side("height", sides["height"]),
        width_px=parse_side("width", sides["width"]),
    )


def _agreed_size(alias: Size | None, target: ParamValue) -> ParamValue:
    """Join the two spellings of the wanted size."""
    if isinstance(target, Size) and alias is not None and alias != target:
        raise InvalidParameterError(
            f"target_size must be the same as width and height, got {target} and {alias}"
        )
    return target if alias is None else alias


def _hint(name: str, own: Iterable[str]) -> str:
    """Name the parameter that was probably meant."""
    close = difflib.get_close_matches(name[:_NAME_CHARS].lower(), own, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(value: ParamValue) -> object:
    """Turn a value into what JSON holds."""
    match value:
        case bytes():
            return f"blake2b:{hashlib.blake2b(value, digest_size=32).hexdigest()}"
        case Size():
            return {"width": value.width_px, "height": value.height_px}
        case Loras():
            return [{"id": name, "scale": scale} for name, scale in value.scales]
        case tuple():
            return blend_text(value)
        case _:
            return value


def _used(stage: Stage, limit: int) -> dict[str, object]:
    """Return the parameters that have a value as JSON fit for a header."""
    names = [param.name for param in all_params(stage.model)]
    values = stage.values
    return {name: _brief(values[name], limit) for name in names if values.get(name) is not None}


def _brief(value: ParamValue, limit: int) -> object:
    """Turn a value into JSON fit for a header."""
    if isinstance(value, bytes):
        return f"sha256:{hashlib.sha256(value).hexdigest()[:16]}"
    plain = _plain(value)
    if isinstance(plain, str) and len(plain) > limit:
        return f"{plain[:limit]}..."
    return plain
