import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMAND = [sys.executable, "-m", "calotype"]
START_S = 20.0
"""Long enough for a machine that is busy with something else."""

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment far from the user's own folders."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALOTYPE_")}
    folders = {"CALOTYPE_DATA_DIR": tmp_path / "data", "CALOTYPE_CACHE_DIR": tmp_path / "cache"}
    return kept | {key: str(value) for key, value in folders.items()}


@pytest.fixture
def start(env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a server on a free port; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def run(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
            log = stack.enter_context((tmp_path / "log").open("w"))
            process = subprocess.Popen(
                [*COMMAND, "serve", "--port", "0", *arguments],
                env=env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            stack.callback(_end, process)
            assert process.stdout is not None
            first = process.stdout.readline()
            assert "listens on" in first, (tmp_path / "log").read_text()
            return process, first.split()[3]

        yield run


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


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
    process, url = start()
    assert json.loads(_get(f"{url}/health"))
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    body = _get(f"{url}/models/upscale-fast", buffer.getvalue())
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (120, 80)
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) == 0


def test_an_interrupt_ends_it_in_order(start: Start) -> None:
    process, url = start()
    _get(f"{url}/health")
    process.send_signal(signal.SIGINT)
    assert process.wait(START_S) == 0


def test_no_engine_is_in_the_process_before_the_first_model(start: Start) -> None:
    process, url = start()
    _get(f"{url}/health")
    maps = Path(f"/proc/{process.pid}/maps")
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
    _, url = start()
    secret = _run(env, "token", "create", "a").stdout.strip()
    deadline_s = time.monotonic() + START_S
    while (status := _status(f"{url}/models")) == 200 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert status == 401
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {secret}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=START_S) as answer:  # noqa: S310
        assert answer.status == 200
