"""The OpenAPI page, written from the routes, the catalog and the table of errors."""

from collections.abc import Iterable, Sequence

from calotype.api.operation import VERSION
from calotype.api.problems import documented
from calotype.api.routes import Path
from calotype.domain.model import ModelSpec
from calotype.domain.request import FORMATS
from calotype.domain.schema import json_schema

Json = dict[str, object]

_PICTURES: Json = {f"image/{name}": {} for name in FORMATS}
_FLAG: Json = {"type": "string", "enum": ["true", "false"]}
_REQUEST_HEADERS: dict[str, tuple[str, Json]] = {
    "x-use-cache": ("false computes anew; default true", _FLAG),
    "x-wait-for-model": ("true waits while the model loads; default false", _FLAG),
    "x-strict": ("true refuses what is otherwise ignored with a warning", _FLAG),
    "x-deadline-ms": ("milliseconds this request may take", {"type": "integer", "minimum": 1}),
    "x-request-id": ("kept and echoed", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
    "if-none-match": ("etags the client has answers of", {"type": "string"}),
}
_PATH_PARAMETERS = {
    "id": "a model: NAME or ORG/NAME; several joined by + run one after the other",
    "name": "a framework",
    "request_id": "the x-request-id of a request in work",
}
_ANSWER_HEADERS = {
    "etag": "strong validator of the picture",
    "x-request-id": "id of this request in the server's log",
    "x-cache": "hit, miss, bypass or coalesced",
    "x-compute-type": "cpu, gpu or cache",
    "x-compute-time": "seconds, a decimal number",
    "x-queue-time": "milliseconds, an integer",
    "x-inference-time": "milliseconds, an integer",
    "x-total-time": "milliseconds, an integer",
    "x-model-id": "the model that ran; those of a chain, joined by +",
    "x-model-revision": "its revision; those of a chain, joined by +",
    "x-seed": "seed that was used, where one was",
    "x-batch-size": "pictures computed together",
    "x-parameters-applied": "JSON of the parameters that were used; of a chain, by stage",
    "x-hf-warning": "what was ignored or changed, one header each",
}
_ERROR: Json = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "error_type": {"type": "string"},
        "estimated_time": {"type": "number", "description": "seconds; only while a model loads"},
    },
    "required": ["error", "error_type"],
}


def describe(paths: Sequence[Path], models: Iterable[ModelSpec]) -> Json:
    """Write the page.

    Args:
        paths: every route.
        models: those that the reader may run.

    Source:
        OpenAPI Specification 3.1.1.
    """
    schemas: Json = {"Error": _ERROR}
    names = []
    for spec in models:
        names.append(name := "parameters." + spec.id.replace("/", "--"))
        schema = json_schema(spec)
        schemas[name] = {"title": spec.name, **schema}
    listed: dict[str, Json] = {}
    for path in paths:
        url = path.path.replace(":path}", "}")
        listed.setdefault(url, {})[path.method.lower()] = _operation(path, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Calotype", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": listed,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: Path, models: Sequence[str]) -> Json:
    """Describe one method of one path."""
    operation: Json = {"summary": path.summary, "responses": _responses(path)}
    if path.guarded:
        # Since 3.1 the list may name roles for schemes other than OAuth, too.
        operation["security"] = [{}, {"token": [path.scope] if path.scope else []}]
    parameters = [_parameter(name) for name in _PATH_PARAMETERS if f"{{{name}" in path.path]
    read = _REQUEST_HEADERS if path.answer == "picture" else path.headers
    for name in read:
        text, schema = _REQUEST_HEADERS[name]
        parameters.append({"name": name, "in": "header", "description": text, "schema": schema})
    if path.answer == "picture":
        operation["requestBody"] = _body(models)
    if parameters:
        operation["parameters"] = parameters
    return operation


def _parameter(name: str) -> Json:
    text, schema = _PATH_PARAMETERS[name], {"type": "string"}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _body(models: Sequence[str]) -> Json:
    """Describe the two forms of a body."""
    picture = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
    flags = {name: {"type": "boolean"} for name in ("use_cache", "wait_for_model")}
    parameters: Json = {"type": "object"}
    if models:
        parameters = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in models]}
    schema = {
        "type": "object",
        "properties": {
            "inputs": picture,
            "image": picture | {"description": "another name of inputs"},
            "parameters": parameters,
            "options": {"type": "object", "properties": flags},
        },
        "anyOf": [{"required": ["inputs"]}, {"required": ["image"]}],
    }
    return {"required": True, "content": {"application/json": {"schema": schema}, "image/*": {}}}


def _responses(path: Path) -> Json:
    """Describe the answers: the good ones, then those of the table of errors."""
    if path.answer != "picture":
        media = "text/plain" if path.answer == "text" else "application/json"
        responses: Json = {"200": {"description": "OK", "content": {media: {}}}}
        return responses | ({"default": _error("an error")})
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in _ANSWER_HEADERS.items()
    }
    return {
        "200": {"description": "The picture", "headers": headers, "content": _PICTURES},
        "304": {"description": "The client has this picture"},
        **{
            str(int(status)): _error(f"{status.phrase}: {', '.join(kinds)}")
            for status, kinds in documented().items()
        },
    }


def _error(description: str) -> Json:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
