"""What OpenAI's API sends and gets, as JSON Schema for the OpenAPI page."""

from calotype.api.order import FORMAT, MAX_PICTURES, NO_EFFECT, UNSEEN
from calotype.domain.request import FORMATS

Json = dict[str, object]

ERROR: Json = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "the parameter it is of"},
                "code": {"type": "string", "description": "the kind of error"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}

_FILE: Json = {"type": "string", "contentMediaType": "image/*"}

FORM: Json = {
    "type": "object",
    "description": "any other field is a parameter of the model",
    "properties": {
        "image": _FILE | {"description": "the picture"},
        "image[]": {
            "type": "array",
            "items": _FILE,
            "description": "the picture, then those for the model's image parameters, in order",
        },
        "mask": _FILE | {"description": "what is transparent in it is repainted"},
        "prompt": {"type": "string"},
        "model": {"type": "string", "description": "a model's id or alias, or a chain"},
        "n": {"type": "integer", "minimum": 1, "maximum": MAX_PICTURES, "default": 1},
        "size": {"type": "string", "pattern": "^(auto|[0-9]+x[0-9]+)$", "default": "auto"},
        "response_format": {"type": "string", "enum": ["b64_json", "url"], "default": "b64_json"},
        "output_format": {"type": "string", "enum": list(FORMATS), "default": FORMAT},
        "seed": {"type": "integer", "description": "of the first picture; the next has one more"},
        **{name: {"description": "has no effect"} for name in sorted(NO_EFFECT | UNSEEN)},
    },
    "anyOf": [{"required": ["image"]}, {"required": ["image[]"]}],
}
"""Of ``multipart/form-data``; what is no text of a form is a file of it."""

PICTURES: Json = {
    "type": "object",
    "properties": {
        "created": {"type": "integer", "description": "seconds since 1970"},
        "model": {"type": "string"},
        "output_format": {"type": "string", "enum": list(FORMATS)},
        "size": {"type": "string", "description": "WIDTHxHEIGHT"},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "b64_json": {"type": "string", "contentEncoding": "base64"},
                    "url": {"type": "string", "description": "a data: URI"},
                    "seed": {"type": "integer"},
                },
            },
        },
    },
    "required": ["created", "data", "output_format", "size"],
}

SCHEMAS: Json = {"OpenAIError": ERROR, "OpenAIForm": FORM, "OpenAIPictures": PICTURES}
"""What the page refers to by name."""
