import contextlib
import io
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2e.server import COMMAND, START_S, Server, clean_environment, serving

Start = Callable[..., Server]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of the server."""
    return clean_environment(tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server on a free port; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving(tmp_path, *arguments))


def _get(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"x-wait-for-model": "true"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=START_S) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content


def _status(url: str) -> int:
    try:
        _get(url)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def _run(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_server_from_start_to_end(start: Start) -> None:
    server = start()
    assert json.loads(_get(f"{server.url}/health"))
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    body = _get(f"{server.url}/models/upscale-fast", buffer.getvalue())
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (120, 80)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_no_engine_is_in_the_process_before_the_first_model(start: Start) -> None:
    server = start()
    _get(f"{server.url}/health")
    maps = Path(f"/proc/{server.process.pid}/maps")
    if maps.exists():
        assert "openvino" not in maps.read_text()


def test_it_is_not_open_to_the_network_by_accident(env: dict[str, str]) -> None:
    result = _run(env, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert result.returncode == 2
    assert "calotype token create NAME" in result.stderr


def test_a_port_that_is_taken(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        result = _run(env, "serve", "--port", port)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(
        f"error: cannot listen on 127.0.0.1 port {port}"
    )


def test_a_token_opens_a_running_server(start: Start, env: dict[str, str]) -> None:
    url = start().url
    secret = _run(env, "token", "create", "a").stdout.strip()
    deadline_s = time.monotonic() + START_S
    while (status := _status(f"{url}/models")) == 200 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert status == 401
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {secret}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=START_S) as answer:  # noqa: S310
        assert answer.status == 200
