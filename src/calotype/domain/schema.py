"""A model's parameters as JSON Schema, for ``GET /models/{id}`` and the OpenAPI page."""

from calotype.domain.blend import NUMBER_PATTERN, WEIGHT_PATTERN
from calotype.domain.chain import Chain
from calotype.domain.lora import MAX_LORAS, MAX_SCALE
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import COMMON, all_params
from calotype.domain.value import MAX_SIDE_PX, MAX_TEXT_CHARS

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"

_CHOICE = rf"\s*(?:{NUMBER_PATTERN}|[A-Za-z0-9][A-Za-z0-9 _\-]*)\s*"
_PART = rf"{_CHOICE}:\s*{WEIGHT_PATTERN}\s*"
_BLEND_PATTERN = rf"^(?:{_CHOICE}|{_PART}(?:,{_PART})*)$"


def json_schema(spec: ModelSpec) -> dict[str, object]:
    """Describe the parameters a model takes.

    Args:
        spec: the model.

    Returns:
        A schema of an object; further properties are allowed, as they are ignored with a warning.

    Source:
        JSON Schema, draft 2020-12.
    """
    params = all_params(spec)
    schema: dict[str, object] = {
        "$schema": JSON_SCHEMA,
        "type": "object",
        "properties": {param.name: _property(param) for param in params},
        "additionalProperties": True,
    }
    if required := [param.name for param in params if param.required]:
        schema["required"] = required
    return schema


def chain_schema(chain: Chain) -> dict[str, object]:
    """Describe the parameters of a chain: as ``json_schema``, with an object for each stage.

    What a stage requires is not marked: it may stand outside of the objects too, for all stages.
    """
    if chain.is_single:
        return json_schema(chain.models[0])
    tables: dict[str, object] = {}
    for model, label in zip(chain.models, chain.labels, strict=True):
        about = {"description": f"parameters of the stage {label}", "type": "object"}
        tables[label] = about | {
            "properties": {param.name: _property(param) for param in all_params(model)},
            "additionalProperties": True,
        }
    return {
        "$schema": JSON_SCHEMA,
        "type": "object",
        "properties": tables | {param.name: _property(param) for param in COMMON},
        "additionalProperties": True,
    }


def _property(param: ParamSpec) -> dict[str, object]:
    """Describe one parameter."""
    described: dict[str, object] = {"description": param.help} | _type(param)
    if param.type != "blend" and param.choices:
        described["enum"] = list(param.choices)
    limits = {"minimum": param.minimum, "maximum": param.maximum, "default": param.default}
    return described | {key: value for key, value in limits.items() if value is not None}


def _type(param: ParamSpec) -> dict[str, object]:
    """Describe what a parameter's type allows."""
    match param.type:
        case "string":
            return _string(param)
        case "image":
            return {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
        case "blend":
            return _blend(param)
        case "loras":
            return _loras()
        case "size":
            side = {"type": "integer", "minimum": 1, "maximum": MAX_SIDE_PX}
            return {
                "type": "object",
                "properties": {"width": side, "height": side},
                "required": ["width", "height"],
                "additionalProperties": False,
            }
        case _:
            return {"type": param.type}


def _string(param: ParamSpec) -> dict[str, object]:
    """Describe a text."""
    if param.choices:
        return {"type": "string"}
    text: dict[str, object] = {"type": "string", "maxLength": MAX_TEXT_CHARS}
    if param.name != "negative_prompt":
        return text
    return {"oneOf": [text, {"type": "array", "items": {"type": "string"}}]}


def _blend(param: ParamSpec) -> dict[str, object]:
    """Describe a choice among numbered names, or a mix of them."""
    return {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": len(param.choices) - 1},
            {"type": "string", "pattern": _BLEND_PATTERN, "examples": list(param.choices)},
        ]
    }


def _loras() -> dict[str, object]:
    """Describe adapters."""
    scale = {"type": "number", "minimum": -MAX_SCALE, "maximum": MAX_SCALE, "default": 1.0}
    lora = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "scale": scale},
        "required": ["id"],
        "additionalProperties": False,
    }
    item = {"oneOf": [lora, {"type": "string"}]}
    return {"oneOf": [{"type": "array", "items": item, "maxItems": MAX_LORAS}, {"type": "string"}]}
