"""Request headers: joined, and read liberally."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError
from calotype.settings import Settings

Headers = Mapping[bytes, bytes]
"""Lower-case name to value; lines of one name are joined by a comma."""

MAX_WAIT_S = 3600.0
"""Longest time that an answer is held back because its client prefers so."""

UNCHOSEN = b"x-calotype-request-id-unchosen"
"""Says that a proxy of ours made the request id, and not the client."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}")
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the headers ask for beside the picture."""

    use_cache: bool | None
    """None: the header doesn't say."""
    wait_for_model: bool | None
    strict: bool
    deadline_s: float
    """Seconds that the request may take."""
    body_s: float
    """Seconds that its body may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What a client would like, but needn't get."""

    is_async: bool = False
    """To be answered before the work is done."""
    wait_s: float = 0.0
    """To be answered after that time at most."""


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers by name.

    Args:
        raw: as ASGI has them: names in lower case, in the order of the lines.

    Source:
        RFC 9110, section 5.3.
    """
    joined: dict[bytes, bytes] = {}
    for name, value in raw:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def kept_request_id(headers: Headers) -> str | None:
    """Return the client's own request id, or None where it sent none that can be kept."""
    sent = headers.get(b"x-request-id")
    return sent.decode() if sent is not None and REQUEST_ID.fullmatch(sent) else None


def is_id_chosen(headers: Headers) -> bool:
    """Tell whether the client has an id to ask with."""
    return kept_request_id(headers) is not None and UNCHOSEN not in headers


def read_wishes(headers: Headers, settings: Settings, *, is_job: bool = False) -> Wishes:
    """Read what the headers ask for.

    Args:
        headers: of the request.
        settings: limits and defaults.
        is_job: whether nobody holds a connection for it, so that it may take longer.

    Raises:
        InvalidParameterError: one has no meaning, or is out of range.
    """
    deadline_s = _deadline_s(headers, settings)
    usual_s = settings.max_deadline_s if is_job else settings.deadline_s
    return Wishes(
        use_cache=_flag(headers, b"x-use-cache"),
        wait_for_model=_flag(headers, b"x-wait-for-model"),
        strict=bool(_flag(headers, b"x-strict")),
        deadline_s=usual_s if deadline_s is None else deadline_s,
        body_s=settings.deadline_s if deadline_s is None else deadline_s,
    )


def read_preference(headers: Headers) -> Preference:
    """Read the header ``Prefer``; what has no meaning in it is ignored, as its standard says.

    Source:
        RFC 7240.
    """
    if b"prefer" not in headers:
        return Preference()
    found: dict[str, str] = {}
    for part in headers[b"prefer"].decode("latin-1").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Preference(
        is_async="respond-async" in found,
        wait_s=min(float(wait), MAX_WAIT_S) if _SECONDS.fullmatch(wait) else 0.0,
    )


def read_boolean(name: str, value: object) -> bool:
    """Read true or false in the spellings that clients use.

    Raises:
        InvalidParameterError: it is neither.
    """
    if isinstance(value, str | int):  # bool is an int
        known = _BOOLEANS.get(str(value).strip().lower())
        if known is not None:
            return known
    raise InvalidParameterError(f"{name} must be true or false, got {show_value(value)}")


def _flag(headers: Headers, name: bytes) -> bool | None:
    value = headers.get(name)
    if value is None or not value.strip():
        return None
    return read_boolean(name.decode(), value.decode("latin-1"))


def _deadline_s(headers: Headers, settings: Settings) -> float | None:
    sent = headers.get(b"x-deadline-ms")
    if sent is None:
        return None
    text, most_ms = sent.decode("latin-1").strip(), int(settings.max_deadline_s * 1000)
    if not _MILLISECONDS.fullmatch(text) or not 1 <= int(text) <= most_ms:
        raise InvalidParameterError(
            f"x-deadline-ms must be an integer in [1, {most_ms}], got {show_value(text)}"
        )
    return int(text) / 1000
