"""What becomes of requests, processes and memory when things go wrong in a real server."""

import io
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from e2e.server import START_S, Server, serving

CATALOG = """
[[model]]
id = "t/plain"
backend = "fake"
[[model]]
id = "t/slow"
backend = "fake"
[model.options]
steps = 30
step_s = 0.1
[[model]]
id = "t/dies"
backend = "fake"
[model.options]
fail = "kill"
[[model]]
id = "t/hangs"
backend = "fake"
[model.options]
fail = "hang"
[[model]]
id = "t/large"
backend = "fake"
[model.options]
load_bytes = 300_000_000
run_bytes = 100_000_000
"""
WAIT = {"x-wait-for-model": "true", "x-use-cache": "false", "accept": "image/png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    with serving(folder, "--catalog-file", str(catalog), "--stop-s", "0.5") as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, headers=WAIT) as found:
        yield found


def picture(seed: int, side: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def tree_bytes(server: Server) -> int:
    """Return the resident memory of the server and all its processes."""
    main = psutil.Process(server.process.pid)
    return sum(p.memory_info().rss for p in (main, *main.children(recursive=True)))


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))  # noqa: PTH208, S108  names are enough


def until(condition: Callable[[], bool], limit_s: float = START_S) -> float:
    """Wait for something, and return how long that took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, "it did not come to pass"
        time.sleep(0.01)
    return time.monotonic() - began_s


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    text = client.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0.0


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(
    server: Server, client: httpx.Client
) -> None:
    upload = picture(1)
    client.post("/models/t/plain", content=upload)
    before = {p.pid for p in workers(server)}
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.post, "/models/t/slow", content=upload)
        until(lambda: metric(client, "calotype_models_loaded") >= 2)
        time.sleep(0.3)  # amid its run
        (victim,) = [p for p in workers(server) if p.pid not in before]
        victim.kill()
        other = client.post("/models/t/plain", content=picture(2))
        assert answer.result().status_code == 200
    assert answer.result().content[:4] == b"\x89PNG"
    assert other.status_code == 200
    assert server.process.poll() is None
    assert before <= {p.pid for p in workers(server)}, "the other model's process lived on"
    assert metric(client, "calotype_job_retries_total", model="t/slow") == 1


def test_a_model_that_always_crashes_fails_alone(server: Server, client: httpx.Client) -> None:
    began_s = time.monotonic()
    bad = client.post("/models/t/dies", content=picture(3))
    assert bad.status_code == 500
    assert bad.json()["error_type"] == "backend"
    assert time.monotonic() - began_s < START_S
    assert client.post("/models/t/plain", content=picture(4)).status_code == 200
    time.sleep(0.5)
    pids = {p.pid for p in workers(server)}
    time.sleep(0.5)
    assert {p.pid for p in workers(server)} == pids, "it must not be started over and over"
    # Whoever goes on asking gets it refused without a load, for a while.
    for seed in range(2):
        client.post("/models/t/dies", content=picture(seed))
    resting = client.post("/models/t/dies", content=picture(9))
    assert resting.status_code == 500
    assert 1 <= int(resting.headers["retry-after"]) <= 10


def test_a_model_that_hangs_is_ended_at_the_deadline(server: Server, client: httpx.Client) -> None:
    client.post("/models/t/hangs/load")
    before = {p.pid for p in workers(server)}
    late = client.post("/models/t/hangs", content=picture(5), headers={"x-deadline-ms": "1000"})
    assert late.status_code == 504
    until(lambda: metric(client, "calotype_worker_kills_total", model="t/hangs") == 1)
    until(lambda: len(before - {p.pid for p in workers(server)}) == 1)
    assert client.post("/models/t/plain", content=picture(6)).status_code == 200


def test_clients_that_leave_free_the_device(server: Server, client: httpx.Client) -> None:
    client.post("/models/t/slow/load")
    lines = []
    for seed in range(64):
        line = socket.create_connection(("127.0.0.1", server.port))
        upload = picture(100 + seed)
        head = f"POST /models/t/slow HTTP/1.1\r\nhost: a\r\ncontent-length: {len(upload)}\r\n\r\n"
        line.sendall(head.encode() + upload)
        lines.append(line)
    until(lambda: metric(client, "calotype_queue_jobs") == 64)
    saved = metric(client, "calotype_cancelled_compute_seconds_total", model="t/slow")
    for line in lines:
        line.close()
    until(lambda: metric(client, "calotype_queue_jobs") == 0, 2)
    began_s = time.monotonic()
    upload = picture(7)
    answer = client.post("/models/t/plain", content=upload)
    assert answer.status_code == 200
    assert np.array_equal(pixels(answer.content), pixels(upload))
    # A run takes three seconds: the device was free long before that.
    assert time.monotonic() - began_s < 2
    assert metric(client, "calotype_cancelled_compute_seconds_total", model="t/slow") > saved + 60


def pixels(body: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_memory_comes_back_however_often_models_are_loaded(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    models = ("t/large", "upscale-fast", "style", "style-image")
    shared = shared_memory()
    with (
        serving(tmp_path, "--catalog-file", str(catalog)) as server,
        httpx.Client(base_url=server.url, timeout=60, headers=WAIT) as client,
    ):
        sizes = []
        for turn in range(6):
            for model in models:
                upload = picture(turn, 64)
                body: dict[str, object] = {"content": upload}
                if model == "style-image":
                    files = {"inputs": text(upload), "parameters": {"style_image": text(upload)}}
                    body = {"json": files}
                answer = client.post(f"/models/{model}", **body)  # type: ignore[arg-type]
                assert answer.status_code == 200, answer.text
                assert client.post(f"/models/{model}/unload").status_code == 200
            assert not workers(server)
            sizes.append(tree_bytes(server))
        first, last = sizes[0], sizes[5]
        assert last <= first * 1.05, sizes
    assert shared_memory() == shared


def text(upload: bytes) -> str:
    import base64

    return base64.b64encode(upload).decode()


def test_nothing_is_left_of_a_server_that_is_killed(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    shared = shared_memory()
    with (
        serving(tmp_path, "--catalog-file", str(catalog)) as server,
        httpx.Client(base_url=server.url, timeout=60, headers=WAIT) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        for model in ("t/plain", "t/slow", "t/hangs"):
            client.post(f"/models/{model}/load")
        for model in ("t/slow", "t/hangs"):  # one computes when the end comes, one hangs
            threads.submit(client.post, f"/models/{model}", content=picture(1))
        time.sleep(0.5)
        orphans = workers(server)
        assert len(orphans) == 3
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not any(p.is_running() for p in orphans), 5)
    assert shared_memory() == shared
