"""A peer as a process that has loaded its network and runs a picture whenever it is told to.

The other side is a script in ``peers/`` that prints ``{"ready_s": ...}`` once it has loaded, then
answers each line ``{"picture": IN.npy, "output": OUT.npy or null}`` with ``{"seconds": ...}``.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calotype.domain.image import Pixels
from contest import Run
from peer import PEERS, Peer, PeerMissingError

LOAD_S = 300.0
RUN_S = 4 * 3600.0


class Child:
    """The process, seen from here; a contestant."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path, name: str) -> None:
        self._process, self._folder, self._name = process, folder, name
        self._sent: Pixels | None = None
        self._count = 0
        self.ready_s = float(self._answer(LOAD_S)["ready_s"])

    def __call__(self, pixels: Pixels, keep: bool) -> Run:
        """Run a picture.

        Raises:
            PeerMissingError: the process ended, or takes for ever.
        """
        if pixels is not self._sent:
            self._count += 1
            self._sent = pixels
            np.save(self._picture, pixels)
        output = self._folder / f"{self._name}-out.npy"
        order = {"picture": str(self._picture), "output": str(output) if keep else None}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerMissingError(self._last_words()) from error
        seconds = float(self._answer(RUN_S)["seconds"])
        return Run(seconds, np.load(output) if keep else None)

    @property
    def _picture(self) -> Path:
        return self._folder / f"{self._name}-{self._count}.npy"

    def _answer(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit_s):
                raise PeerMissingError(f"it said nothing for {limit_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerMissingError(self._last_words())
        found: dict[str, Any] = json.loads(line)
        return found

    def _last_words(self) -> str:
        code = self._process.wait()
        lines = (self._folder / f"{self._name}.log").read_text(errors="replace").splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        killed = f" (signal {-code})" if code < 0 else ""
        return f"it ended: {said}{killed}"


@contextlib.contextmanager
def started(folder: Path, peer: Peer, name: str, arguments: Sequence[str] = ()) -> Iterator[Child]:
    """Start a peer's script; it ends with the block.

    Args:
        folder: for its log, and the pictures that go in and out.
        peer: an installed one.
        name: tells the files of several processes of one peer apart.
        arguments: of the script.

    Raises:
        PeerMissingError: it doesn't get to where it has loaded.
    """
    command = [str(peer.python), str(PEERS / f"{peer.name}_peer.py"), *arguments]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield Child(process, folder, name)
    finally:
        # Nothing of it is to be saved, and a compiler that it started ends too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # both are pipes
