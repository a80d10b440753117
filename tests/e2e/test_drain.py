"""How `calotype serve` ends: at the first signal when its work is done, at the second at once."""

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2e.server import START_S, Server, serving

CATALOG = """
[[model]]
id = "test/echo"
backend = "fake"

[[model]]
id = "test/slow"
backend = "fake"
[model.options]
steps = 50
step_s = 0.1

[[model]]
id = "test/long"
backend = "fake"
[model.options]
steps = 1000
step_s = 0.1

[[model]]
id = "test/stuck"
backend = "fake"
[model.options]
fail = "hang"

[[model]]
id = "test/loading"
backend = "fake"
[model.options]
load_s = 600
"""
COMPUTES = """
import threading, time, uvicorn
from types import SimpleNamespace
from calotype.cli.server import Server

async def app(scope, receive, send):
    pass

async def settle():
    return True

server = Server(
    uvicorn.Config(app, port=0, lifespan="off", log_config=None),
    SimpleNamespace(
        settings=SimpleNamespace(drain_s=600),
        refuse=lambda: None,
        settle=settle,
        pool=SimpleNamespace(kill=lambda: print("killed", flush=True)),
    ),
)
server.handle_exit(15, None)
threading.Thread(target=time.sleep, args=(600,)).start()
server.run()
"""
SOON_S = 4.0
"""Less than a connection may be idle, so that none of those was waited for."""

Start = Callable[..., Server]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server with slow models; it ends with the test."""
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    chosen = ["--catalog-file", str(catalog), "--default-model", "test/echo"]
    with ExitStack() as stack:
        yield lambda *more: stack.enter_context(serving(tmp_path, *chosen, *more))


def picture(side: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def ask(server: Server, method: str, path: str, body: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, {"x-wait-for-model": "true"})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())
    finally:
        connection.close()


def run_beside(server: Server, model: str) -> "Future[Answer]":
    """Post a picture, and return once the server works on it."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(ask, server, "POST", f"/models/{model}", picture())
    executor.shutdown(wait=False)
    wait_until(lambda: b"\ncalotype_queue_jobs 1.0" in ask(server, "GET", "/metrics").body)
    return future


def state(server: Server, model: str) -> str:
    return str(json.loads(ask(server, "GET", f"/models/{model}").body)["state"])


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def drains(server: Server) -> bool:
    return ask(server, "GET", "/ready").status == 503


def refuses_connections(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), 5).close()
    except OSError:
        return True
    return False


def test_what_is_in_work_is_finished_and_what_is_new_is_refused(start: Start) -> None:
    server = start()
    running = run_beside(server, "test/slow")
    server.signal(signal.SIGTERM)
    wait_until(lambda: drains(server))
    assert ask(server, "GET", "/health").status == 200
    refused = ask(server, "POST", "/models/test/echo", picture())
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert not running.done()
    answer = running.result(START_S)
    assert answer.status == 200
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.size == (8, 8)
    assert server.wait() == 0
    assert "shutting down: 1 request in work, with up to 30 s" in server.said
    assert "another signal stops them at once" in server.said
    assert "cut off" not in server.said
    assert "Traceback" not in server.said


@pytest.mark.parametrize("model", ["long", "stuck"])
def test_what_takes_longer_than_the_grace_period_is_answered_too(start: Start, model: str) -> None:
    server = start("--drain-s", "1")
    running = run_beside(server, f"test/{model}")
    began_s = time.monotonic()
    server.signal(signal.SIGTERM)
    answer = running.result(START_S)
    assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True)
    assert server.wait() == 0
    assert time.monotonic() - began_s >= 0.9
    assert "1 request not done after 1 s: cut off" in server.said
    assert "Traceback" not in server.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(start: Start, number: signal.Signals) -> None:
    server = start()
    running = run_beside(server, "test/long")
    server.signal(number)
    wait_until(lambda: drains(server))
    began_s = time.monotonic()
    server.signal(number)
    assert server.process.wait(SOON_S) == 128 + number
    assert time.monotonic() - began_s < SOON_S
    assert f"{number.name} again: stopped at once, 1 request cut off" in server.said
    assert "Traceback" not in server.said
    assert isinstance(running.exception(START_S), OSError | http.client.HTTPException)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_in_work_holds_nothing_up(start: Start, number: signal.Signals) -> None:
    server = start()
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=START_S)
    idle.request("GET", "/health")
    assert idle.getresponse().read()
    with socket.create_connection(("127.0.0.1", server.port)):
        began_s = time.monotonic()
        server.signal(number)
        assert server.wait() == 0
        assert time.monotonic() - began_s < SOON_S
    assert idle.sock.recv(1) == b""
    idle.close()
    assert "another signal" not in server.said
    assert "Traceback" not in server.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_up", [True, False])
def test_a_model_that_loads_holds_nothing_up(
    start: Start, number: signal.Signals, *, is_up: bool
) -> None:
    server = start("--preload", "test/loading")
    if is_up:
        wait_until(lambda: state(server, "test/loading") == "loading")
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.said


def test_an_answer_on_its_way_arrives_whole(start: Start) -> None:
    server = start()
    upload = picture(3000)
    # A small window, so that most of the answer waits in the server.
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(START_S)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"POST /models/test/echo HTTP/1.1\r\nHost: x\r\nAccept: image/png\r\n")
        client.sendall(b"Content-Length: %d\r\n\r\n" % len(upload) + upload)
        with client.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(file)
            server.signal(signal.SIGTERM)
            wait_until(lambda: refuses_connections(server))
            size = int(headers["content-length"])
            assert size > 10_000_000
            assert len(file.read(size)) == size
    assert server.wait() == 0


def test_an_upload_that_does_not_end_is_answered(start: Start) -> None:
    server = start("--drain-s", "1")
    with socket.create_connection(("127.0.0.1", server.port), START_S) as client:
        client.sendall(b"POST /models/test/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        wait_until(lambda: ask(server, "GET", "/health").status == 200)
        server.signal(signal.SIGTERM)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert answer.headers["x-request-id"]
        assert b"shutting down" in answer.read()
    assert server.wait() == 0
    assert "1 request not done after 1 s: cut off" in server.said
    assert "Traceback" not in server.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_there_is_a_server(number: signal.Signals) -> None:
    result = run_program(
        "import os, time\n"
        "from calotype.cli.server import leave_on_signals\n"
        "leave_on_signals()\n"
        f"os.kill(os.getpid(), {number.value})\n"
        "time.sleep(60)\n"
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_thread_that_computes_holds_nothing_up() -> None:
    result = run_program(COMPUTES)
    assert (result.returncode, result.stdout, result.stderr) == (0, "killed\n", "")


def run_program(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
