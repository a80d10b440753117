"""Pictures in JSON: base64 in all the spellings that clients use."""

import binascii
import re

from calotype.domain.text import show_value
from calotype.errors import MalformedRequestError

_URL = re.compile(r"\s*(?:https?|ftps?|file)://", re.IGNORECASE)
_DATA_URI = re.compile(r"\s*data:([^,]{0,1000}),", re.IGNORECASE)
_SPACE = b" \t\r\n\f\v"
_ODD = (b"-", b"_", *(bytes([c]) for c in _SPACE))
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_SHOWN_CHARS = 40


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64: plain, URL-safe, as a ``data:`` URI, with white space, without padding.

    Args:
        text: what the client sent.
        name: the field it was sent in, for the message.

    Returns:
        At least one byte.

    Raises:
        MalformedRequestError: it is empty, a URL, or not base64.

    Source:
        RFC 4648 (sections 4 and 5), RFC 2397.
    """
    if _URL.match(text):
        raise MalformedRequestError(
            f"{name} is a URL; URLs are not fetched; send the picture itself, base64-encoded"
        )
    try:
        payload = _payload(text).encode("ascii")
        # Most clients send none of these; finding that out is cheaper than translating for nothing.
        if any(mark in payload for mark in _ODD):
            payload = payload.translate(_TO_STANDARD, _SPACE)
        if len(payload) % 4:
            payload = payload.rstrip(b"=")
            payload += b"=" * (-len(payload) % 4)
        decoded = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # UnicodeEncodeError and binascii.Error are both
        shown = show_value(text, _SHOWN_CHARS)
        raise MalformedRequestError(
            f"{name} must be a picture, base64-encoded, got {shown}"
        ) from None
    if not decoded:
        raise MalformedRequestError(f"{name} is empty; it must be a picture, base64-encoded")
    return decoded


def _payload(text: str) -> str:
    """Return what follows the head of a data URI, or the text itself."""
    head = _DATA_URI.match(text)
    if head is None:
        return text
    if not head[1].rstrip().lower().endswith("base64"):
        raise ValueError("a data URI without base64")
    return text[head.end() :]
