"""A node of Ray as an operator starts it, with processes and ports of its own."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from calotype.scale.node import ENVIRONMENT
from ports import free_port

BIN = Path(sys.executable).parent
START_S = 90.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Head:
    """A node that runs."""

    address: str
    """What RAY_ADDRESS takes."""
    dashboard: str
    """URL of what `serve deploy` talks to."""
    folder: Path
    environ: dict[str, str]
    """What opens it to Ray's commands."""

    def told(self) -> dict[str, Any]:
        """Return what Ray says of the applications; it has none until one is deployed."""
        url = f"{self.dashboard}/api/serve/applications/"
        headers = {"authorization": f"Bearer {self.environ['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as it:  # noqa: S310
            said: dict[str, Any] = json.load(it)
        return said


@contextlib.contextmanager
def head(environ: Mapping[str, str], cpus: int = 2) -> Iterator[Head]:
    """Start the head of a cluster; it and all that it started end with the block.

    Args:
        environ: variables beside those that every node needs.
        cpus: how many it says it has.
    """
    # Sockets are below it, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    ports = {name: free_port() for name in ("", "dashboard-", "dashboard-agent-listen-")}
    command = [str(BIN / "ray"), "start", "--head", "--block", f"--num-cpus={cpus}"]
    command += [f"--{name}port={port}" for name, port in ports.items()]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    dashboard = f"http://127.0.0.1:{ports['dashboard-']}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    one = Head(f"127.0.0.1:{ports['']}", dashboard, folder, token)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **ENVIRONMENT, **environ, **token}, stdout=log, stderr=log
        )
    try:
        _wait(one, process)
        yield one
    finally:
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family:  # the raylet's workers end with it, those that it starts now too
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        _, left = psutil.wait_procs(family, STOP_S)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        assert left == []


def _wait(one: Head, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the dashboard answers."""
    give_up_s = time.monotonic() + START_S
    while True:
        assert process.poll() is None, (one.folder / "log").read_text()
        assert time.monotonic() < give_up_s, (one.folder / "log").read_text()
        with contextlib.suppress(OSError):
            one.told()
            return
        time.sleep(0.1)  # it has no event for it
