"""The Accept header: which picture formats a client takes, best first."""

import functools
import re
from collections.abc import Iterator

from calotype.domain.request import FORMATS, ImageFormat
from calotype.domain.text import show_value
from calotype.errors import NotAcceptableError

_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_TYPES = {f"image/{name}": name for name in FORMATS}
_WILDCARDS = {"*/*": 0, "*": 0, "image/*": 1}
_EXACT = 2
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?|\.[0-9]{1,3})")

_Range = tuple[str, int, float]
"""Media range, how exactly it names its types, quality."""


@functools.lru_cache(maxsize=256)
def accepted_formats(accept: bytes) -> tuple[ImageFormat, ...]:
    """Choose what can be sent.

    Args:
        accept: value of the header, its lines joined; empty for none.

    Returns:
        Formats, best first; none at all when the client leaves the choice to us.

    Raises:
        NotAcceptableError: the client takes none of ours.

    Source:
        RFC 9110, section 12.5.1.
    """
    text = accept.decode("latin-1")
    ranges = list(_ranges(text))
    if not ranges:
        return ()
    found = [(_best(name, ranges), name) for name in FORMATS]
    if all(match == found[0][0] for match, _ in found) and found[0][0][0] > 0:
        return ()  # one wildcard covers them all: no preference among ours
    ranked = sorted(found, key=lambda pair: (-pair[0][0], -pair[0][1], pair[0][2]))
    formats = tuple(name for (quality, _, _), name in ranked if quality > 0)
    if not formats:
        known = ", ".join(_TYPES)
        raise NotAcceptableError(f"Accept must allow one of {known}, got {show_value(text)}")
    return formats


def _best(name: ImageFormat, ranges: list[_Range]) -> tuple[float, int, int]:
    """Return quality, exactness and place of the range that says most of a format."""
    found = (0.0, -1, len(ranges))
    for place, (media, exactness, quality) in enumerate(ranges):
        covers = exactness < _EXACT or _TYPES.get(media) == name
        if covers and (exactness > found[1] or (exactness == found[1] and quality > found[0])):
            found = (quality, exactness, place)
    return found


def _ranges(text: str) -> Iterator[_Range]:
    """Split the header; what is no media range is skipped."""
    for part in text.split(","):
        head, *options = part.split(";")
        media = head.strip().lower()
        quality = _quality(options)
        if media and quality is not None:
            media = _ALIASES.get(media, media)
            yield media, _WILDCARDS.get(media, _EXACT), quality


def _quality(options: list[str]) -> float | None:
    """Return the q-value: 1 when there is none, None when it is not a number of the kind."""
    for option in options:
        name, _, value = option.partition("=")
        if name.strip().lower() == "q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else None
    return 1.0
