"""Peers, in environments of their own: they are no dependencies of ours, not even for tests."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from server import clean_environment, free_port, running, wait_for

LITSERVE = "0.2.19"
PACKAGES = (f"litserve=={LITSERVE}", "pyvips[binary]", "numpy")
SCRIPT = Path(__file__).with_name("litserve_echo.py")


@dataclass(frozen=True, slots=True)
class Setting:
    """How LitServe is run."""

    workers: int
    fast_queue: bool

    def __str__(self) -> str:
        queue = "ZeroMQ" if self.fast_queue else "default queue"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}, {queue}"


SETTINGS = tuple(Setting(workers, fast) for fast in (False, True) for workers in (1, 2))
"""One of each on two cores; a server process for each worker, as is LitServe's default."""


def install() -> Path:
    """Make LitServe's environment, unless an earlier run has; return its Python."""
    return environment("litserve", LITSERVE, PACKAGES)


def environment(name: str, version: str, packages: Sequence[str]) -> Path:
    """Make a peer's environment, unless an earlier run has; return its Python."""
    folder = Path(tempfile.gettempdir()) / f"calotype-{name}-{version}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {', '.join(packages)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", *packages]
        subprocess.run(pip, check=True, timeout=600)
        done.touch()
    return python


@contextlib.contextmanager
def litserve(folder: Path, python: Path, setting: Setting) -> Iterator[int]:
    """Serve with LitServe; yields its port."""
    port = free_port()
    command = [str(python), str(SCRIPT), "--port", str(port), "--workers", str(setting.workers)]
    command += ["--fast-queue"] if setting.fast_queue else []
    with running(command, folder / "litserve.log", clean_environment(folder)):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield port
