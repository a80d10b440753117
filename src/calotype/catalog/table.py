"""Reading TOML tables strictly: every key is known, and every complaint says where."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from calotype.errors import InvalidCatalogError

Scalar = str | int | float | bool
"""What an option or a default can be."""


def read_toml(path: Path) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        InvalidCatalogError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCatalogError(f"{path}: cannot be read: {error}") from error


class Table:
    """One TOML table; keys are taken one by one, and what is left at the end is unknown.

    Iteration names the keys that were not taken yet.

    Args:
        raw: the table; a string, array or number in its place is refused.
        where: file and model, for messages.
        key: the table's own name in them.
    """

    def __init__(self, raw: object, where: str, key: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise InvalidCatalogError(f"{where}: {key or 'the file'} must be a table, got {raw!r}")
        self.where = where
        self._raw = dict(raw)
        self._key = key

    def wrong(self, key: str, allowed: str, value: object) -> InvalidCatalogError:
        """Return the error for one key: what is allowed, and what is there."""
        return self.error(f"{self.name(key)} must be {allowed}, got {value!r:.100}")

    def error(self, message: str) -> InvalidCatalogError:
        """Return an error that says where."""
        return InvalidCatalogError(f"{self.where}: {message}")

    def name(self, key: str) -> str:
        """Return a key's full name."""
        return f"{self._key}.{key}" if self._key else key

    def take(self, key: str) -> object:
        """Take a value of any type; None where there is none."""
        return self._raw.pop(key, None)

    def text(self, key: str, default: str | None = None) -> str:
        """Take a string; without a default it is required, and not empty."""
        value = self._raw.pop(key, default)
        if value is None:
            raise self.error(f"{self.name(key)} is missing")
        if not isinstance(value, str) or (default is None and not value):
            raise self.wrong(
                key, "a string" if default is not None else "a string with text", value
            )
        return value

    def choice(self, key: str, default: str | None, allowed: tuple[str, ...]) -> str:
        """Take one of a few words."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.wrong(key, f"one of {', '.join(allowed)}", value)
        return value

    def integer(self, key: str, default: int, minimum: int) -> int:
        """Take an integer that has a lower bound."""
        value = self._raw.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.wrong(key, f"an integer of at least {minimum}", value)
        return value

    def number(self, key: str) -> float | None:
        """Take a finite number, if there is one."""
        value = self._raw.pop(key, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number", value)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.wrong(key, "a finite number", value)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Take true or false."""
        value = self._raw.pop(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def scalar(self, key: str) -> Scalar | None:
        """Take a string, a number or a boolean, if there is one."""
        value = self._raw.pop(key, None)
        if value is not None and not isinstance(value, str | int | float | bool):
            raise self.wrong(key, "a string, a number or a boolean", value)
        return value

    def scalars(self, key: str) -> dict[str, Scalar]:
        """Take a table of strings, numbers and booleans."""
        table = self.table(key)
        values = {name: table.scalar(name) for name in table}
        return {name: value for name, value in values.items() if value is not None}

    def items(self, key: str) -> list[object]:
        """Take an array."""
        value = self._raw.pop(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "an array", value)
        return value

    def table(self, key: str) -> "Table":
        """Take a table inside this one; empty where there is none."""
        return Table(self._raw.pop(key, {}), self.where, self.name(key))

    def tables(self, key: str) -> list["Table"]:
        """Take an array of tables."""
        items = enumerate(self.items(key))
        return [Table(item, self.where, f"{self.name(key)}[{i}]") for i, item in items]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._raw))  # what is taken meanwhile is still named

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            InvalidCatalogError: there is an unknown key.
        """
        for key in self._raw:
            raise self.error(f"{self.name(key)} is not a key of the catalog")
