"""How a client's own words are shown back: they end up in messages and in HTTP headers."""

import json
from collections.abc import Iterator

SHOWN_CHARS = 100
"""Longest value shown in a message."""


def printable(text: str, limit: int) -> str:
    """Make text safe for a header: printable ASCII, cut at ``limit`` characters.

    Args:
        text: any text.
        limit: characters to keep; what was cut shows as three dots after them.
    """
    kept = "".join(c if " " <= c <= "~" else "?" for c in text[:limit])
    return kept if len(text) <= limit else f"{kept}..."


def show_value(value: object, limit: int = SHOWN_CHARS) -> str:
    """Write any value as ASCII JSON, cut at ``limit`` characters.

    Args:
        value: what JSON can hold; of anything else the type's name is shown.
        limit: characters to keep; what was cut shows as three dots after them.
    """
    if isinstance(value, str) and len(value) > limit:
        return json.dumps(value[:limit])[:limit] + "..."
    text = ""
    try:
        for piece in _pieces(value):
            text += piece
            if len(text) > limit:
                return f"{text[:limit]}..."
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"
    return text


def _pieces(value: object) -> Iterator[str]:
    """Write a value bit by bit, so that neither depth nor length costs more than is shown."""
    return json.JSONEncoder(skipkeys=True, default=lambda other: type(other).__name__).iterencode(
        value
    )


def toml_text(text: str) -> str:
    """Write a string as TOML does: JSON's form, but for surrogate pairs and control characters."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return json.dumps(plain, ensure_ascii=False)
