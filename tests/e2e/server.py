"""``calotype serve`` as a process."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-m", "calotype"]
START_S = 20.0
"""Long enough for a machine that is busy with something else."""


@dataclass(frozen=True, slots=True)
class Server:
    """A started server."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def said(self) -> str:
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Signal to it as a terminal or systemd does: to all its processes."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Return the status that it ends with."""
        return self.process.wait(START_S)


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment far from the user's own folders."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALOTYPE_")}
    folders = {"CALOTYPE_DATA_DIR": folder / "data", "CALOTYPE_CACHE_DIR": folder / "cache"}
    return kept | {key: str(value) for key, value in folders.items()}


def heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, one of which may be this very run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """Start a server on a free port; it ends with the block."""
    path = folder / "log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments],
            env=clean_environment(folder),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,  # noqa: PLW1509  no test starts one beside a thread
        )
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert "listens on" in first, path.read_text()
            yield Server(process, first.split()[3], path)
        finally:
            process.kill()
