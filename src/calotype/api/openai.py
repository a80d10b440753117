"""The shapes of the OpenAI API: its models, its pictures in JSON, its errors.

Source:
    https://platform.openai.com/docs/api-reference, images/createEdit and models.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from calotype.api.problems import Problem, Written
from calotype.domain.image import Size
from calotype.domain.model import ModelSpec
from calotype.domain.request import ImageResponse

OPENAI_PATH: Final = "/v1/"
"""Below it, everything is as clients of OpenAI expect it."""

PIECE_BYTES = 192 * 1024
"""Of a picture that are written as base64 at once; a multiple of 3."""

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_CODES = {
    "unknown_model": "model_not_found",
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
}
"""Kinds of error that OpenAI has a name of its own for."""
_HINTS = {"unknown_model": "GET /v1/models lists the models"}
# OpenAI's clients repeat these by themselves. A cancelled request would have to be cancelled again,
# a crash was tried again already, and whoever set a deadline wanted no answer after it.
_NO_REPEAT = {
    HTTPStatus.CONFLICT,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_OF_PARAMETERS = {"validation", "malformed"}
"""Kinds of error whose message may begin with the name of a parameter."""
_PARAMETER = re.compile(r"(?!x-)([A-Za-z0-9_.#/\[\]-]+) (?:must|is) ")


def write_error(problem: Problem) -> Written:
    """Write an error as OpenAI's clients read it."""
    server = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    hint = _HINTS.get(problem.kind)
    named = _PARAMETER.match(problem.message) if problem.kind in _OF_PARAMETERS else None
    error = {
        "message": f"{problem.message}; {hint}" if hint else problem.message,
        "type": _TYPES.get(problem.status, "server_error" if server else "invalid_request_error"),
        "param": named[1] if named else None,
        "code": _CODES.get(problem.kind, problem.kind),
        **problem.extra,
    }
    headers = {"x-should-retry": "false"} if problem.status in _NO_REPEAT else {}
    return {"error": error}, headers


def model_object(spec: ModelSpec) -> dict[str, object]:
    """Describe a model, or what stands for a chain."""
    owner, slash, _ = spec.id.partition("/")
    return {
        "id": spec.name,
        "object": "model",
        "created": 0,
        "owned_by": owner if slash else "calotype",
    }


def model_list(specs: Sequence[ModelSpec]) -> dict[str, object]:
    """Describe models."""
    return {"object": "list", "data": [model_object(spec) for spec in specs]}


class Pictures:
    """The answer to an edit, as JSON that is written bit by bit: pictures may be large.

    Args:
        about: members beside ``data``.
        responses: what was made.
        as_url: write ``data:`` URIs in place of plain base64.
    """

    def __init__(
        self, about: Mapping[str, object], responses: Sequence[ImageResponse], *, as_url: bool
    ) -> None:
        self._head = _json(about)[:-1] + b',"data":['
        self._entries = [(_opening(one, as_url=as_url), one.body) for one in responses]

    @property
    def size_bytes(self) -> int:
        """Length of all pieces together."""
        base64 = sum(-(-len(body) // 3) * 4 for _, body in self._entries)
        around = sum(len(opening) + len(b'"}') for opening, _ in self._entries)
        commas = len(self._entries) - 1
        return len(self._head) + base64 + around + commas + len(b"]}")

    def pieces(self) -> Iterator[bytes]:
        """Return the JSON in pieces, each of them quick to make; a short one is whole."""
        if self.size_bytes <= PIECE_BYTES:
            yield b"".join(self._parts())
        else:
            yield from self._parts()

    def _parts(self) -> Iterator[bytes]:
        yield self._head
        for number, (opening, body) in enumerate(self._entries):
            yield b"," + opening if number else opening
            for start in range(0, len(body), PIECE_BYTES):
                yield b64encode(body[start : start + PIECE_BYTES])
            yield b'"}'
        yield b"]}"


def about_edit(
    response: ImageResponse, size: Size, created_s: int, warnings: Sequence[str]
) -> dict[str, object]:
    """Describe what was made, but for the pictures themselves."""
    return {
        "created": created_s,
        "model": response.model.name,
        "output_format": response.format,
        "size": str(size),
        "warnings": list(warnings),
    }


def _opening(response: ImageResponse, *, as_url: bool) -> bytes:
    """Write what stands before the base64 of a picture."""
    seed = {} if response.seed is None else {"seed": response.seed}
    name, value = "b64_json", ""
    if as_url:
        name, value = "url", f"data:image/{response.format};base64,"
    return _json({**seed, name: value})[: -len(b'"}')]


def _json(content: object) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
