"""The committed figures: what they hold for, how far off is allowed, and what is said beyond."""

import json
import platform
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).with_name("instructions.json")
ALLOWED = 0.10
"""Share of the committed figure, more or less."""
RECORD = "make guard-record"
PACKAGES = ("numpy", "prometheus_client", "starlette", "uvloop")
"""Whose code is counted too. A new version is no other key, as hardly any makes a difference that
counts, and a guard that each of them puts to sleep guards little; a failure names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was counted on one kind of Python and machine."""

    instructions: Mapping[str, int]
    """Per call, by path."""
    versions: Mapping[str, str]
    """By package; of Python and valgrind too."""


def key_here() -> str:
    """Name what figures depend on most: Python, how it was built, and the machine's kind."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    names = {
        "optimized": "--enable-optimizations",
        "lto": "--with-lto",
        "shared": "--enable-shared",
    }
    built = [name for name, option in names.items() if option in options]
    compiler = platform.python_compiler().split(".")[0]
    python = f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"
    return ", ".join((python, platform.machine(), " ".join((compiler, *built))))


def versions_here(valgrind: str) -> dict[str, str]:
    """Return what may make a difference beside the key."""
    found = {"python": platform.python_version(), "valgrind": valgrind}
    return found | {name: version(name) for name in PACKAGES}


def read(file: Path = FILE) -> dict[str, Recording]:
    """Return the recordings by key."""
    if not file.exists():
        return {}
    return {key: Recording(**told) for key, told in json.loads(file.read_text("utf-8")).items()}


def write(key: str, recording: Recording, file: Path = FILE) -> None:
    """Put a recording in the place of the one of its key; the others stay."""
    told = {name: asdict(each) for name, each in sorted({**read(file), key: recording}.items())}
    file.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def problem(path: str, committed: Recording, found: Recording, profile: Path) -> str | None:
    """Say what is wrong with a figure, or None if it is near enough to the committed one.

    Args:
        path: whose figure.
        committed: what is allowed, nearly.
        found: what was counted now.
        profile: the file for callgrind_annotate.
    """
    before, now = committed.instructions.get(path), found.instructions[path]
    if before is None:
        return f"{path} has no committed figure; record it: {RECORD}"
    if abs(now - before) <= ALLOWED * before:
        return None
    low, high = round(before * (1 - ALLOWED)), round(before * (1 + ALLOWED))
    faster = "It takes less now: record the new figure, so that the gain is guarded too."
    slower = "It takes more now: mend it, or record the new figure with the reason in the commit."
    return "\n".join(
        (
            f"{path}: {now:,} instructions a call; {before:,} are committed,"
            f" ratio {now / before:.3f}; allowed are {low:,} to {high:,} (±{ALLOWED:.0%}).",
            faster if now < before else slower,
            *_differences(committed.versions, found.versions),
            f"look closer:       callgrind_annotate --inclusive=no {profile}",
            f"without a change:  git stash; {RECORD} ARGS=--dry-run; git stash pop",
            f"record:            {RECORD}",
        )
    )


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say which other versions the figure was recorded with."""
    other = [
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    return [f"Versions differ from the recorded ones: {', '.join(other)}."] if other else []
