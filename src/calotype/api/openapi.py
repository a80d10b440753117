"""The OpenAPI page, written from the routes, the catalog and the table of errors."""

from collections.abc import Iterable, Sequence
from typing import get_args

from calotype.api.exchange import dialect_of
from calotype.api.openai import write_error
from calotype.api.openai_schema import SCHEMAS
from calotype.api.operation import VERSION
from calotype.api.page import TYPES
from calotype.api.problems import Dialect, documented, plain
from calotype.api.record import State
from calotype.api.routes import Kind, Path
from calotype.domain.model import ModelSpec
from calotype.domain.request import FORMATS
from calotype.domain.schema import json_schema

Json = dict[str, object]

PAGE_TYPES = (*(kind.partition(";")[0] for kind in TYPES.values()), "application/json")
_PICTURES: Json = {f"image/{name}": {} for name in FORMATS}
_FLAG: Json = {"type": "string", "enum": ["true", "false"]}
_REQUEST_HEADERS: dict[str, tuple[str, Json]] = {
    "x-use-cache": ("false computes anew; default true", _FLAG),
    "x-wait-for-model": ("true waits while the model loads; default false, below /v1/ true", _FLAG),
    "x-strict": ("true refuses what is otherwise ignored with a warning", _FLAG),
    "x-deadline-ms": ("milliseconds this request may take", {"type": "integer", "minimum": 1}),
    "x-request-id": ("kept and echoed", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
    "prefer": (
        "respond-async: run it as a job; wait=SECONDS: answer by then at the latest",
        {"type": "string"},
    ),
    "last-event-id": ("number of the last event that is known", {"type": "string"}),
    "if-none-match": ("etags the client has answers of", {"type": "string"}),
}
READ = tuple(name for name in _REQUEST_HEADERS if name != "last-event-id")
"""What whoever runs a model may send."""
_PATH_PARAMETERS = {
    "id": "a model: NAME or ORG/NAME; several joined by + run one after the other",
    "name": "a framework",
    "file": "a file of the page",
    "request_id": "the x-request-id of a request",
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
_NULLABLE_TEXT: Json = {"type": ["string", "null"]}
_REQUEST: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "state": {"enum": list(get_args(State))},
        "stage": _NULLABLE_TEXT | {"description": "of a chain: the stage at work"},
        "place": {"type": ["integer", "null"], "description": "in the queue; 1 is the next"},
        "estimated_time": {
            "type": ["number", "null"],
            "description": "seconds until the model is loaded",
        },
        "progress": {
            "type": ["object", "null"],
            "properties": {
                "step": {"type": "integer"},
                "total": {"type": "integer"},
                "seconds_left": {"type": ["number", "null"]},
            },
        },
        "preview": _NULLABLE_TEXT | {"description": "data URI of a small picture"},
        "error": {
            "type": ["object", "null"],
            "properties": {
                "status": {"type": "integer"},
                "error": {"type": "string"},
                "error_type": {"type": "string"},
                "retry_after_s": {"type": "number"},
                "estimated_time": {"type": "number"},
            },
        },
        "result": _NULLABLE_TEXT | {"description": "where a job's picture is"},
        "job": {"type": "boolean"},
        "created_at": {"type": "string", "format": "date-time"},
        "expires_in_s": {"type": ["integer", "null"]},
    },
    "required": ["id", "model", "state", "job", "created_at"],
}


def describe(paths: Sequence[Path], models: Iterable[ModelSpec]) -> Json:
    """Write the page.

    Args:
        paths: every route.
        models: those that the reader may run.

    Source:
        OpenAPI Specification 3.1.1.
    """
    schemas: Json = {"Error": _ERROR, "Request": _REQUEST, **SCHEMAS}
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
    for name in READ if path.answer == "picture" else path.headers:
        text, schema = _REQUEST_HEADERS[name]
        parameters.append({"name": name, "in": "header", "description": text, "schema": schema})
    if path.answer == "picture":
        operation["requestBody"] = _body(models)
    elif path.answer == "pictures":
        operation["requestBody"] = {"required": True, "content": _FORM}
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
    return _GOOD[path.answer] | {
        str(int(status)): _error(f"{status.phrase}: {', '.join(kinds)}", dialect_of(path.path))
        for status, kinds in documented(path.errors).items()
    }


def _content(description: str, *types: str) -> Json:
    return {"description": description, "content": {name: {} for name in types}}


def _error(description: str, dialect: Dialect) -> Json:
    return {"description": description, "content": {"application/json": _schema(_ERRORS[dialect])}}


def _schema(name: str) -> Json:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


_HEADERS: Json = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in _ANSWER_HEADERS.items()
}
_ENDED: Json = {"description": "There is nothing more to tell"}
_SAME: Json = {"description": "The client has this already"}
_STATE: Json = {
    "description": "State of the request",
    "content": {"application/json": _schema("Request")},
}
_PICTURE: Json = {
    "description": "The picture",
    "headers": _HEADERS,
    "content": _PICTURES,
}
_FORM: Json = {"multipart/form-data": _schema("OpenAIForm")}
_IN_JSON: Json = {
    "description": "The pictures",
    "headers": {name: header for name, header in _HEADERS.items() if name != "etag"},
    "content": {"application/json": _schema("OpenAIPictures")},
}
_ERRORS: dict[Dialect, str] = {plain: "Error", write_error: "OpenAIError"}
_GOOD: dict[Kind, Json] = {
    "picture": {"200": _PICTURE, "202": _STATE, "304": _SAME},
    "pictures": {"200": _IN_JSON},
    "result": {"200": _PICTURE, "304": _SAME},
    "json": {"200": _content("OK", "application/json")},
    "state": {"200": _STATE},
    "removal": {"200": _STATE, "204": _ENDED},
    "events": {"200": _content("Events, each with the state", "text/event-stream"), "204": _ENDED},
    "text": {"200": _content("OK", "text/plain")},
    "page": {"200": _content("The page, or a word", *PAGE_TYPES), "304": _SAME},
}
