"""What a benchmark found: Markdown for people, JSON for ``run.py`` to collect."""

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure
from bounds import Bound

FILE_VARIABLE = "BENCH_FILE"
"""Names the file that the JSON goes to; ``run.py`` sets it."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, lowest and highest of the paired rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


Cell = str | int | float | Ratio | None
"""None: there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind."""

    title: str
    """What is measured, with the units that the columns don't name."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {row} has not one cell for each of {self.columns}")

    def __str__(self) -> str:
        lines = [self.title, "", _line(self.columns), _line(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_line([_text(cell) for cell in row]) for row in self.rows)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one benchmark found."""

    name: str
    """Of the benchmark, with its options: what ``make bench-one NAME=`` takes."""
    method: str
    """One or two sentences: what runs, in which order, what counts."""
    tables: Sequence[Table] = ()
    aims: Sequence[Bound] = ()
    """What is promised, and numbers worth knowing."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of everything that took part, peers in their own environments included."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Peers that didn't take part, and why."""

    def __str__(self) -> str:
        parts = [self.method, *map(str, self.tables)]
        parts += [str(_aims(self.aims))] if self.aims else []
        parts += [f"Not measured: {name}: {why}" for name, why in self.missing.items()]
        parts += ["Versions: " + ", ".join(f"{n} {v}" for n, v in sorted(self.versions.items()))]
        return "\n\n".join(parts)


def publish(report: Report) -> None:
    """Print a report, write it where ``run.py`` looks, and end with status 1 if an aim is missed.

    A missed aim is a finding, not an error of the benchmark: ``run.py`` goes on.
    """
    print(f"\n{measure.machine()}\n\n{report}", flush=True)
    if file := os.environ.get(FILE_VARIABLE):
        data = {"date": time.strftime("%Y-%m-%d"), "machine": measure.machine(), **asdict(report)}
        Path(file).write_text(json.dumps(data, indent=1), encoding="utf-8")
    if missed := [aim.what for aim in report.aims if not aim.holds]:
        sys.exit(f"missed: {'; '.join(missed)}")


def read(data: Mapping[str, Any]) -> Report:
    """Return what ``publish`` wrote."""
    tables = tuple(
        Table(
            table["title"],
            tuple(table["columns"]),
            tuple(tuple(map(_cell, row)) for row in table["rows"]),
        )
        for table in data["tables"]
    )
    return Report(
        name=data["name"],
        method=data["method"],
        tables=tables,
        aims=tuple(Bound(**aim) for aim in data["aims"]),
        versions=data["versions"],
        missing=data["missing"],
    )


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of packages in this environment."""
    return {name: version(name) for name in packages}


def paired(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Return how many times larger, round by round."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _aims(aims: Sequence[Bound]) -> Table:
    rows = tuple((aim.what, aim.found, aim.limit, _verdict(aim)) for aim in aims)
    return Table("Aims", ("", "found", "aim", ""), rows)


def _verdict(aim: Bound) -> str:
    return "" if not aim.limit else "met" if aim.holds else "**missed**"


def _cell(found: Any) -> Cell:  # noqa: ANN401  as JSON has it
    return Ratio(**found) if isinstance(found, dict) else found


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.3g}" if isinstance(cell, float) and abs(cell) < 100 else _plain(cell)


def _plain(cell: Cell) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) else str(cell)
