"""What a form asks for, in OpenAI's words: from its fields to parameters of our models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from calotype.api.header import read_boolean
from calotype.api.multipart import Fields, Form, nested
from calotype.domain.base64 import decode_base64
from calotype.domain.chain import Chain
from calotype.domain.model import ParamSpec
from calotype.domain.params import MAX_WARNINGS, all_params
from calotype.domain.request import ImageFormat
from calotype.domain.spelling import read_json, read_parameters, read_size
from calotype.domain.value import parse_value
from calotype.errors import InvalidParameterError, MalformedRequestError

MAX_PICTURES = 10
"""Made for one request."""

MASK = "mask"
"""Field of a picture whose transparent part is to be repainted."""
MASK_PARAMETER = "mask_image"
"""Parameter of a picture whose white part is to be repainted."""

FORMAT: ImageFormat = "png"
"""What is written unless the form says otherwise, as OpenAI does."""

NO_EFFECT = frozenset(
    (
        *("background", "complexity", "frame_count", "frame_duration_ms", "input_fidelity"),
        *("markup", "moderation", "output_compression", "partial_images", "quality", "svg"),
    )
)
"""Fields of OpenAI that do nothing here, unless a model declares such a parameter."""
UNSEEN = frozenset({"safety_identifier", "user"})
"""Fields of OpenAI that ask for nothing."""

_COUNT = ParamSpec(name="n", type="integer", help="", minimum=1, maximum=MAX_PICTURES)
_RESPONSE = ParamSpec(name="response_format", type="string", help="", choices=("b64_json", "url"))
_IMAGE = re.compile(r"image(?:\[[0-9]{0,4}\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a form asks for."""

    upload: bytes
    """The encoded picture."""
    parameters: Mapping[str, object]
    """As a JSON body holds them."""
    holes: bytes | None
    """An encoded picture, in place of a mask: what is transparent in it is repainted."""
    count: int
    """Of the pictures to make."""
    as_url: bool
    """Whether they are wanted as URLs."""
    warnings: tuple[str, ...]
    """What was ignored; printable ASCII, one header each."""


def model_of(form: Form) -> str:
    """Return the model that a form names; empty for the default.

    Raises:
        MalformedRequestError: it is sent twice, or as a file.
    """
    return _text(nested({"model": form.get("model", [""])}), "model")


def read_order(form: Form, chain: Chain, *, strict: bool) -> Order:
    """Understand a form.

    Args:
        form: what was sent.
        chain: what its model names.
        strict: refuse what would otherwise be ignored with a warning.

    Raises:
        MalformedRequestError: no picture, too many, a field sent twice, or what isn't offered.
        InvalidParameterError: a field of a wrong type, or one refused by ``strict``.
    """
    pictures = _pictures(form)
    fields = nested({name: form[name] for name in form if not _IMAGE.fullmatch(name)})
    _text(fields, "model")
    if (stream := _text(fields, "stream")) and read_boolean("stream", stream):
        raise MalformedRequestError(
            "stream is not supported: the pictures come in one answer; leave it out"
        )
    count = parse_value(_COUNT, read_json(_text(fields, "n") or "1"))
    response = parse_value(_RESPONSE, _text(fields, "response_format") or "b64_json")
    size, sent = _text(fields, "size"), fields.pop(MASK, "")
    holes = None if sent == "" else _picture(MASK, sent)
    warnings = _take_unused(fields, chain, strict=strict)
    parameters = {"output_format": FORMAT, **_parameters(fields, chain)}
    if size and size.lower() != "auto":
        _add(parameters, "target_size", read_size("size", size), "size")
    if holes is not None and parameters.get(MASK_PARAMETER) is not None:
        raise MalformedRequestError(f"send one mask: {MASK} or {MASK_PARAMETER}")
    _place(parameters, chain, pictures[1:])
    return Order(
        upload=pictures[0],
        parameters=parameters,
        holes=holes,
        count=count if isinstance(count, int) else 1,
        as_url=response == "url",
        warnings=warnings,
    )


def takes_mask(chain: Chain) -> bool:
    """Tell whether any model of a chain takes a mask."""
    return any(model.param(MASK_PARAMETER) for model in chain.models)


def _text(fields: Fields, name: str) -> str:
    """Take out a field that is text; empty where it isn't there."""
    value = fields.pop(name, "")
    if not isinstance(value, str):
        raise MalformedRequestError(f"{name} must be text, one field of the form")
    return value.strip()


def _pictures(form: Form) -> list[bytes]:
    """Return the pictures in the order in which they were sent."""
    names = [name for name in form if _IMAGE.fullmatch(name)]
    found = [_picture("image", value) for name in names for value in form[name]]
    if not found:
        raise MalformedRequestError("no image: send the picture as the file 'image' of the form")
    return found


def _picture(name: str, value: object) -> bytes:
    """Return the bytes of a picture that was sent as a file, or as base64."""
    if isinstance(value, str):
        return decode_base64(value, name)
    if not isinstance(value, bytes) or not value:
        raise MalformedRequestError(f"{name} is empty; it must be a picture")
    return value


def _read_image(name: str, text: str) -> bytes:
    return decode_base64(text, name)


def _take_unused(fields: Fields, chain: Chain, *, strict: bool) -> tuple[str, ...]:
    """Take out what has no effect; return a warning for each that asks for something."""
    taken = {param.name for model in chain.models for param in model.params}
    found = {name: fields.pop(name) for name in (NO_EFFECT | UNSEEN) - taken if name in fields}
    ignored = sorted(
        name for name, value in found.items() if name in NO_EFFECT and value not in ("", "auto")
    )
    reason = "OpenAI's models alone have it"
    if ignored and strict:
        raise InvalidParameterError(f"{ignored[0]} is refused: {reason}")
    return tuple(f"request; {name} was ignored: {reason}" for name in ignored)[:MAX_WARNINGS]


def _parameters(fields: Fields, chain: Chain) -> dict[str, object]:
    """Turn the fields that are left into parameters, those of one stage into an object."""
    given: Fields = {}
    tables: dict[str, Fields] = {}
    for name, value in fields.items():
        stage, _, own = name.rpartition(".")
        if stage in chain.addresses:
            _add(tables.setdefault(stage, {}), own, value, name)
        elif isinstance(value, dict) and name in chain.addresses:
            for own, part in value.items():
                _add(tables.setdefault(name, {}), own, part, f"{name}[{own}]")
        elif isinstance(value, dict):
            given[name] = {key: _plain(part) for key, part in value.items()}
        else:
            given[name] = value
    tables = {stage: _without_empty(table, chain) for stage, table in tables.items()}
    return read_parameters(chain, _without_empty(given, chain), tables, _read_image)


def _plain(value: object) -> object:
    return read_json(value) if isinstance(value, str) else value


def _add(fields: dict[str, object], name: str, value: object, sent_as: str) -> None:
    """Add what must not be there twice."""
    if fields.get(name) is not None:
        raise MalformedRequestError(f"the form has {name} twice: once as {sent_as}")
    fields[name] = value


def _without_empty(fields: Fields, chain: Chain) -> Fields:
    """Return the fields without those that a client leaves empty where it has no value.

    Empty is a value for texts only.
    """
    texts = {
        param.name
        for model in chain.models
        for param in all_params(model)
        if param.type == "string" and not param.choices
    }
    return {name: value for name, value in fields.items() if value != "" or name in texts}


def _place(parameters: dict[str, object], chain: Chain, more: list[bytes]) -> None:
    """Give the pictures after the first to the image parameters that have none yet, in order."""
    names = dict.fromkeys(
        param.name for model in chain.models for param in model.params if param.type == "image"
    )
    free = [name for name in names if name != MASK_PARAMETER and parameters.get(name) is None]
    if len(more) > len(free):
        taken = "".join(f", then {name}" for name in free)
        raise MalformedRequestError(
            f"image is there {len(more) + 1} times; {chain.spec.name} takes {len(free) + 1}: "
            f"the picture itself{taken}"
        )
    parameters.update(zip(free, more, strict=False))
