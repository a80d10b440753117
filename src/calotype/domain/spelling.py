"""Parameters as text, from a command line or a form, to what JSON would have held."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from calotype.domain.chain import Chain
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import all_params
from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError

ReadImage = Callable[[str, str], object]
"""Called with (parameter, text of it); returns the picture's bytes."""

_SIZE = re.compile(r"\s*([0-9]{1,9})\s*[xX]\s*([0-9]{1,9})\s*")


def read_parameters(
    chain: Chain,
    given: Mapping[str, object],
    tables: Mapping[str, Mapping[str, object]],
    read_image: ReadImage,
) -> dict[str, object]:
    """Turn the texts of a request into what a JSON body holds.

    Args:
        chain: what will run; its models say of what types their parameters are.
        given: parameters for all stages; what is no text stays as it is. Text that begins with a
            brace, under a stage's name, is JSON of that stage's parameters.
        tables: parameters of one stage each, by its name; they beat the others.
        read_image: reads the texts of image parameters.

    Raises:
        InvalidParameterError: a size that isn't one.
    """
    objects = {
        name: read_json(text)
        for name, text in given.items()
        if name in chain.addresses and isinstance(text, str) and text.lstrip().startswith("{")
    }
    plain = {name: value for name, value in given.items() if name not in objects}
    read = _read(chain.models, plain, read_image) | objects
    told: dict[str, dict[str, object]] = {}
    for stage, table in sorted(tables.items(), key=lambda item: "#" in item[0]):
        indices = chain.addresses[stage]
        names = [stage]
        if stage in read:  # a parameter is called like the stage, as style is
            names = [f"{stage}#{number + 1}" for number in range(len(indices))]
        own = _read([chain.models[i] for i in indices], table, read_image)
        told |= {name: told.get(name, {}) | own for name in names}
    return read | told


def read_size(name: str, text: str) -> dict[str, int]:
    """Read ``800x600``, width first.

    Raises:
        InvalidParameterError: it is no such text.
    """
    if (match := _SIZE.fullmatch(text)) is None:
        shown = show_value(text)
        raise InvalidParameterError(f"{name} must be WxH such as 800x600, got {shown}")
    return {"width": int(match[1]), "height": int(match[2])}


def read_json(text: str) -> object:
    """Read a number, true or false, a list or an object; anything else stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(
    models: Sequence[ModelSpec], given: Mapping[str, object], read_image: ReadImage
) -> dict[str, object]:
    """Turn texts into values for the first of the models that takes each parameter."""
    params = {param.name: param for model in reversed(models) for param in all_params(model)}
    return {
        name: _value(params.get(name), name, value, read_image) for name, value in given.items()
    }


def _value(param: ParamSpec | None, name: str, value: object, read_image: ReadImage) -> object:
    """Turn text into what its parameter takes; the pipeline says what is wrong with it."""
    if not isinstance(value, str):
        return value
    match param.type if param else None:
        case "string" | "blend" | "loras":
            return value
        case "image":
            return read_image(name, value)
        case "size":
            return read_size(name, value)
        case _:
            return read_json(value)
