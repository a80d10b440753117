"""A redis-server of a test's own, on loopback, which the test can stop, kill, hang and restart."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import free_port

START_S = 20.0
"""Far more than a start takes."""


class RedisServer:
    """One server; what it keeps outlives a restart.

    Args:
        folder: for its data.
        port: to listen on; 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What the setting ``store_url`` takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        options += ["--logfile", str(self._folder / "log"), "--daemonize", "no"]
        self._process = subprocess.Popen([_binary(), *options])
        end_s = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end_s, "redis-server does not answer"
            time.sleep(0.01)  # it has no event for it

    def stop(self) -> None:
        """Ask it to end, and wait for that; nothing if it doesn't run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a failing machine would; nothing if it doesn't run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, and start it again at the same address."""
        self.stop()
        self.start()

    def hang(self) -> None:
        """Let it keep its connections, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``hang``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sign)
            process.send_signal(signal.SIGCONT)
            process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                line.sendall(b"PING\r\n")
                return line.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[RedisServer]:
    """Run one; skip the test where there is none to run."""
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    pytest.skip("no redis-server: on Debian, `make test` or `apt-get install redis-server`")
