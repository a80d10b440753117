"""Servers as processes of their own, far from the user's folders."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
"""Long enough for a machine that is busy with something else."""
END_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A started ``calotype serve``."""

    process: "subprocess.Popen[str]"
    port: int
    log: Path

    def stop(self) -> int:
        """Ask it to end; return the status that it ends with."""
        self.process.terminate()
        return self.process.wait(END_S)


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment without the user's settings, cache and tokens."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALOTYPE_")}
    folders = {"CALOTYPE_DATA_DIR": folder / "data", "CALOTYPE_CACHE_DIR": folder / "cache"}
    return kept | {key: str(value) for key, value in folders.items()}


@contextlib.contextmanager
def serving(folder: Path, catalog: str, *options: str) -> Iterator[Server]:
    """Serve the models of a catalog on a free port; the server ends with the block.

    Args:
        folder: where the server's files go, its log among them.
        catalog: TOML of models; the first is the default one.
        options: further ones of ``calotype serve``.
    """
    file = folder / "catalog.toml"
    file.write_text(catalog)
    first = catalog.split('id = "', 1)[1].split('"', 1)[0]
    chosen = ("--catalog-file", str(file), "--default-model", first)
    with serving_all(folder, *chosen, *options) as server:
        yield server


@contextlib.contextmanager
def serving_all(folder: Path, *options: str) -> Iterator[Server]:
    """Serve the models that come along."""
    command = [sys.executable, "-m", "calotype", "serve", "--port", "0", *options]
    log = folder / "log"
    with running(command, log, clean_environment(folder), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # On Ray, lines of other processes' logs may come first.
        said = next((line for line in process.stdout if "Calotype listens on" in line), "")
        if not said:
            raise SystemExit(f"calotype serve did not start:\n{log.read_text()}")
        yield Server(process, int(said.split()[3].rpartition(":")[2]), log)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environ: Mapping[str, str], stdout: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run a program; it and all that it started end with the block.

    Args:
        command: the program with its arguments.
        log: where it writes its errors, and its output too unless told otherwise.
        environ: its environment.
        stdout: where its output goes.
    """
    with log.open("a") as file:
        # A session of its own, so that Ctrl-C reaches this program only, which then ends it.
        process = subprocess.Popen(
            command,
            env=environ,
            stdout=file if stdout is None else stdout,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a program politely, then whatever is left of its session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on, for servers that can't choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str) -> None:
    """Poll until somebody answers, whatever the answer is."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()  # it takes POST only
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} did not come up")
