"""What a benchmark found, beside what it promises."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """One promise; without a limit, a number worth knowing."""

    what: str
    found: str
    limit: str = ""
    holds: bool = True


def at_most(what: str, found: float, limit: float, unit: str = "") -> Bound:
    """Promise that a number isn't larger; one that isn't a number breaks that too."""
    return Bound(what, _text(found, unit), f"<= {_text(limit, unit)}", found <= limit)


def at_least(what: str, found: float, limit: float, unit: str = "") -> Bound:
    """Promise that a number isn't smaller."""
    return Bound(what, _text(found, unit), f">= {_text(limit, unit)}", found >= limit)


def exactly(what: str, found: object, wanted: object) -> Bound:
    """Promise that something is what it should be."""
    return Bound(what, str(found), f"{wanted}", found == wanted)


def note(what: str, found: float, unit: str = "") -> Bound:
    """Return a number that nothing is promised of."""
    return Bound(what, _text(found, unit))


def _text(number: float, unit: str) -> str:
    digits = f"{number:.2f}".rstrip("0").rstrip(".")
    return f"{digits} {unit}".strip()
