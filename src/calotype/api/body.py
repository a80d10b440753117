"""From the bytes of a request body to a picture, its parameters and its options."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from starlette.types import Receive

from calotype.api.header import Headers, read_boolean
from calotype.api.presence import ClientGoneError
from calotype.domain.base64 import decode_base64
from calotype.domain.params import KNOWN, MAX_WARNINGS
from calotype.domain.text import printable, show_value
from calotype.errors import (
    DeadlineExceededError,
    InvalidParameterError,
    MalformedRequestError,
    PayloadTooLargeError,
)

THREAD_FROM_BYTES = 256 * 1024
"""JSON of this size on is read on a thread, so that other requests don't wait for it."""

_IS_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_TOP_LEVEL = ("inputs", "image", "parameters", "options")
_OPTIONS = ("use_cache", "wait_for_model")
_NAME_CHARS = 64
_NO_IMAGE = (
    "no image: send its bytes as the body, or JSON with the picture as base64 under 'inputs'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What a body holds."""

    upload: bytes
    """The encoded picture; at least one byte."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    use_cache: bool | None = None
    """None: the body doesn't say."""
    wait_for_model: bool | None = None
    warnings: tuple[str, ...] = ()
    """What was ignored; printable ASCII, one header each."""


@contextlib.asynccontextmanager
async def arriving(body_s: float) -> AsyncIterator[None]:
    """Give a body so many seconds to be here.

    Raises:
        DeadlineExceededError: they passed.
    """
    try:
        async with asyncio.timeout(body_s):
            yield
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the body was here") from None


async def read_body(receive: Receive, headers: Headers, max_bytes: int) -> bytes:
    """Read the body as far as the limit.

    Raises:
        PayloadTooLargeError: it is, or says it is, longer.
        ClientGoneError: the client left before the end.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_payload(
    body: bytes, images: Collection[str] = (), tables: Collection[str] = (), *, strict: bool
) -> Payload:
    """Take a body apart, on a thread where that takes long.

    Args:
        body: raw picture or JSON, whatever its Content-Type says.
        images: parameters that are pictures themselves.
        tables: parameters that are objects of parameters.
        strict: refuse what would otherwise be ignored with a warning.

    Raises:
        MalformedRequestError: no picture, bad JSON, or bad base64.
        InvalidParameterError: a field of a wrong type, or one refused by ``strict``.
    """
    if not body:
        raise MalformedRequestError(_NO_IMAGE)
    if not _IS_JSON.match(body):
        return Payload(upload=body)
    if len(body) < THREAD_FROM_BYTES:
        return parse_json(body, images, tables, strict=strict)
    return await asyncio.to_thread(parse_json, body, images, tables, strict=strict)


def parse_json(
    body: bytes, images: Collection[str] = (), tables: Collection[str] = (), *, strict: bool
) -> Payload:
    """Take a JSON body apart; arguments and errors as for ``read_payload``."""
    document = _load(body)
    ignored = [name for name in document if name not in _TOP_LEVEL]
    options = _object(document, "options")
    use_cache, wait_for_model = (
        None if options.get(name) is None else read_boolean(f"options.{name}", options[name])
        for name in _OPTIONS
    )
    ignored += [f"options.{name}" for name in options if name not in _OPTIONS]
    if ignored and strict:
        raise InvalidParameterError(f"{printable(ignored[0], _NAME_CHARS)} is {_why(ignored[0])}")
    parameters = _decoded(_object(document, "parameters"), images)
    for name in tables:
        table = parameters.get(name)
        if isinstance(table, dict):
            parameters[name] = _decoded(table, images, f"{name}.")
    return Payload(
        upload=_upload(document),
        parameters=parameters,
        use_cache=use_cache,
        wait_for_model=wait_for_model,
        warnings=tuple(_warnings(ignored)),
    )


def _decoded(
    table: Mapping[str, object], images: Collection[str], where: str = ""
) -> dict[str, object]:
    """Decode the pictures among parameters; what is no text is refused where all of them are."""
    found = dict(table)
    for name in images:
        if isinstance(value := table.get(name), str):
            found[name] = decode_base64(value, f"{where}{name}")
    return found


def _load(body: bytes) -> dict[str, object]:
    """Read JSON; what begins with a brace is an object or nothing."""
    try:
        document: dict[str, object] = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not valid JSON: it is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedRequestError(f"the body is not valid JSON: {error.msg}, {where}") from None
    except RecursionError:
        raise MalformedRequestError("the body is not valid JSON: it is nested too deep") from None
    except ValueError:  # an integer of more digits than Python reads
        raise MalformedRequestError("the body is not valid JSON: a number is too long") from None
    return document


def _upload(document: Mapping[str, object]) -> bytes:
    """Return the picture, under either of its names."""
    sent = {name: document[name] for name in ("inputs", "image") if document.get(name) is not None}
    if not sent:
        raise MalformedRequestError(_NO_IMAGE)
    if len(sent) > 1 and sent["inputs"] != sent["image"]:
        raise MalformedRequestError("send one picture: inputs and image are the same field")
    name, value = next(iter(sent.items()))
    if not isinstance(value, str):
        shown = show_value(value)
        raise MalformedRequestError(f"{name} must be a picture, base64-encoded, got {shown}")
    return decode_base64(value, name)


def _object(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a field that is an object; one that is missing or null is an empty one."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidParameterError(f"{name} must be an object, got {show_value(value)}")
    return value


def _warnings(ignored: list[str]) -> list[str]:
    warnings = [
        f"request; {printable(name, _NAME_CHARS)} was ignored: {_why(name)}"
        for name in ignored[:MAX_WARNINGS]
    ]
    more = len(ignored) - MAX_WARNINGS
    return warnings + ([f"request; and {more} more were ignored"] if more > 0 else [])


def _why(name: str) -> str:
    """Say why a field counts for nothing."""
    if name in KNOWN:
        return "a parameter, whose place is inside 'parameters'"
    if name.startswith("options."):
        return f"not an option of Calotype, which has {' and '.join(_OPTIONS)}"
    return f"not a field of a request, which has {', '.join(_TOP_LEVEL)}"


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body must have at most {max_bytes} bytes")
