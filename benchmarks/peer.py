"""Peers, in environments of their own: they are no dependencies of ours, not even for tests.

``peers/NAME.txt`` says what a peer needs, ``peers/NAME_peer.py`` is what runs there.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from server import clean_environment, free_port, running, wait_for

PEERS = Path(__file__).with_name("peers")
INSTALL_S = 900


class PeerMissingError(Exception):
    """A peer can't be installed here; the text says why, for the report."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed peer."""

    name: str
    python: Path

    def versions(self) -> dict[str, str]:
        """Return the versions of what its requirements name."""
        listed = [
            str(self.python),
            "-m",
            "pip",
            "list",
            "--format=json",
            "--disable-pip-version-check",
        ]
        done = subprocess.run(listed, check=True, capture_output=True, text=True)
        found = {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}
        return {name: found[name] for name in self._wanted() if name in found}

    def run(self, *arguments: str, timeout_s: float) -> str:
        """Run its script to the end; return what it printed.

        Raises:
            PeerMissingError: it failed; its last words are in the text.
        """
        command = [str(self.python), str(PEERS / f"{self.name}_peer.py"), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=timeout_s
            )
        except subprocess.CalledProcessError as error:
            raise PeerMissingError(f"it failed: {_last_line(error.stderr)}") from error
        except subprocess.TimeoutExpired as error:
            raise PeerMissingError(f"it took more than {timeout_s:.0f} s") from error
        return done.stdout

    def _wanted(self) -> Iterator[str]:
        for line in (PEERS / f"{self.name}.txt").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                yield line.partition("=")[0].partition("[")[0].strip().lower()


def install(name: str) -> Peer:
    """Make a peer's environment, unless an earlier run has with the same requirements.

    Args:
        name: of ``peers/NAME.txt``.

    Raises:
        PeerMissingError: pip can't.
    """
    wanted = PEERS / f"{name}.txt"
    digest = hashlib.blake2b(wanted.read_bytes(), digest_size=4).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"calotype-peer-{name}-{digest}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {name} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "-r", str(wanted)]
        try:
            subprocess.run(pip, check=True, timeout=INSTALL_S, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            why = _last_line(error.stderr)
            raise PeerMissingError(f"pip can't install it: {why}") from error
        except subprocess.TimeoutExpired as error:
            raise PeerMissingError(f"pip took more than {INSTALL_S} s") from error
        done.touch()
    return Peer(name, python)


@contextlib.contextmanager
def serving(
    folder: Path, peer: Peer, options: Sequence[str] = (), path: str = "/"
) -> Iterator[int]:
    """Run a peer's script as a server; yields its port.

    Args:
        folder: where its log goes.
        peer: an installed one.
        options: of its script, beside ``--port``.
        path: answers, whatever, once the server is up.
    """
    port = free_port()
    script = PEERS / f"{peer.name}_peer.py"
    command = [str(peer.python), str(script), "--port", str(port), *options]
    with running(command, folder / f"{peer.name}.log", clean_environment(folder)):
        wait_for(f"http://127.0.0.1:{port}{path}")
        yield port


def _last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
