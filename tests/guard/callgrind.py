"""Count what a call of each path takes, in one process under valgrind."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from guard.figures import Recording, versions_here
from guard.paths import ROUNDS, WINDOWS

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "out" / "guard"
LIMIT_S = 600.0
"""Far more than the half minute that it takes where nothing else runs."""

_SCRIPT = Path(__file__).with_name("paths.py")
_MARK = "getloadavg"
_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


class CountError(Exception):
    """The paths, or valgrind, did something unexpected."""


def count(profiles: Path = PROFILES) -> Recording:
    """Count the instructions of each path.

    Args:
        profiles: folder that gets a file for callgrind_annotate of each path, ``PATH.callgrind``.

    Raises:
        CountError: the paths fail, or can't be counted.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CountError("valgrind is absent; Debian has it: apt-get install valgrind")
    profiles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Once without valgrind: to compile what is imported, and for errors that can be read.
        _run([sys.executable, str(_SCRIPT), str(folder), "1", "1"], folder)
        out = folder / "dump"
        tool = [valgrind, "--tool=callgrind", f"--callgrind-out-file={out}"]
        tool += [f"--dump-before={_MARK}", f"--log-file={folder / 'log'}"]
        _run([*tool, sys.executable, str(_SCRIPT), str(folder)], folder)
        figures = _collect(out, profiles)
    return Recording(instructions=figures, versions=versions_here(_version(valgrind)))


def _collect(out: Path, profiles: Path) -> dict[str, int]:
    """Read the dumps: the odd ones are between the windows, the even ones are the windows."""
    expected = 2 * WINDOWS * len(ROUNDS)
    dumps = [out.with_name(f"{out.name}.{number}") for number in range(1, expected + 1)]
    if not dumps[-1].exists() or out.with_name(f"{out.name}.{expected + 1}").exists():
        found = len(list(out.parent.glob(f"{out.name}.*")))
        raise CountError(f"callgrind saw {found} calls of {_MARK} in place of {expected}")
    windows = iter(dumps[1::2])
    figures = {}
    for path, rounds in ROUNDS.items():
        totals = {_total(dump): dump for dump in (next(windows) for _ in range(WINDOWS))}
        middle = statistics.median_low(totals)
        figures[path] = round(middle / rounds)
        # What was called before the window began: callgrind_annotate misreads "no calls".
        text = _read(totals[middle]).replace("\ncalls=0 ", "\ncalls=1 ")
        (profiles / f"{path}.callgrind").write_text(text, "utf-8")
    return figures


def _total(dump: Path) -> int:
    """Return how many instructions a dump counts."""
    found = _TOTALS.search(_read(dump))
    if found is None:
        raise CountError(f"{dump} has no totals")
    return int(found[1])


def _read(file: Path) -> str:
    return file.read_text("utf-8", errors="replace")


def _version(valgrind: str) -> str:
    done = subprocess.run([valgrind, "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip().removeprefix("valgrind-")


def _run(command: list[str], folder: Path) -> None:
    """Run a command with an environment that is always the same."""
    told = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    told |= {"OPENBLAS_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1"}
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=folder,
        env=told | kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        log = folder / "log"
        said = done.stderr.decode(errors="replace")
        said += _read(log) if log.exists() else ""
        raise CountError(f"{' '.join(command)} failed with {done.returncode}:\n{said[-4000:]}")
