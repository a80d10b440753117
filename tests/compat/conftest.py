"""A real server for the real clients."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

START_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `calotype serve`, with upscale-fast as the default model."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    environ = {
        **os.environ,
        "CALOTYPE_DATA_DIR": str(folder / "data"),
        "CALOTYPE_CACHE_DIR": str(folder / "cache"),
        "CALOTYPE_DEFAULT_MODEL": "upscale-fast",
        "CALOTYPE_HOLD_S": "60",
    }
    command = [sys.executable, "-m", "calotype", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_alive(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(60)


def wait_until_alive(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).read()  # noqa: S310
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no answer after {START_S} s: {log.read_text()}")


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PNG, reddish on the left and bluish on the right."""
    path = tmp_path_factory.mktemp("picture") / "in.png"
    image = Image.new("RGB", (40, 24), (200, 60, 40))
    image.paste((40, 70, 200), (20, 0, 40, 24))
    image.save(path)
    return path
