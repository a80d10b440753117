"""``calotype serve`` as a process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-m", "calotype"]
START_S = 20.0
"""Long enough for a machine that is busy with something else."""
EXTRA: list[str] = []
"""What `pytest --serve-with` adds to every such command line."""
LONG_START_S = 180.0
"""How long a start may take with arguments that pytest was given: a cluster needs its time."""
STOP_S = 60.0


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
def serving(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None, patient: bool = False
) -> Iterator[Server]:
    """Start a server on a free port; it ends with the block.

    Args:
        folder: where it keeps its files and its log.
        arguments: of the command line.
        environ: variables beside those of a clean environment.
        patient: it takes long to start, and what it has started must not outlive it.
    """
    log, greeting = folder / "log", folder / "greeting"
    patient = patient or bool(EXTRA)
    with log.open("w") as errors, greeting.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments, *EXTRA],
            env={**clean_environment(folder), **(environ or {})},
            stdout=output,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,  # noqa: PLW1509  no test starts one beside a thread
        )
    with process:
        try:
            limit_s = LONG_START_S if patient else START_S
            yield Server(process, _url(process, greeting, log, limit_s), log)
        finally:
            _end(process, patient=patient)


def _url(process: "subprocess.Popen[str]", greeting: Path, log: Path, limit_s: float) -> str:
    """Wait for the greeting, and return the URL in it."""
    # Of a file, not a pipe: a server that goes on talking would stop once nobody reads.
    give_up_s = time.monotonic() + limit_s
    while " listens on " not in (said := greeting.read_text()) or not said.endswith("\n"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_s, f"no greeting after {limit_s} s: {log.read_text()}"
        time.sleep(0.02)
    return said.partition(" listens on ")[2].split()[0]


def _end(process: "subprocess.Popen[str]", *, patient: bool) -> None:
    """End a server: at once, unless it has others to end first."""
    if patient and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    process.kill()
