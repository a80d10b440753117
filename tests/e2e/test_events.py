"""Events and jobs over a real socket, from models in processes of their own."""

import io
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from e2e.server import Server, serving

WAIT_S = 120.0
MODEL = "upscale-fast"


def picture(side: int = 400) -> bytes:
    """A picture of several tiles."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as started:
        yield started


def told(server: Server, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read events one by one, as they come."""
    url = f"{server.url}/requests/{name}/events"
    with httpx.stream("GET", url, timeout=WAIT_S) as answer:
        assert answer.status_code == 200, answer.read()
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))


def post(server: Server, name: str, body: bytes, prefer: str = "") -> httpx.Response:
    headers = {"x-request-id": name, "x-use-cache": "false"}
    if prefer:
        headers["prefer"] = prefer
    url = f"{server.url}/models/{MODEL}"
    return httpx.post(url, content=body, headers=headers, timeout=WAIT_S)


def test_events_come_while_the_request_runs(server: Server) -> None:
    answers: list[httpx.Response] = []
    posting = threading.Thread(target=lambda: answers.append(post(server, "live", picture())))
    events, answered_at_first_step = [], None
    posting.start()
    for kind, document in told(server, "live"):
        events.append((kind, document))
        if kind == "progress" and answered_at_first_step is None:
            answered_at_first_step = bool(answers)
    posting.join(WAIT_S)
    assert answers[0].status_code == 200
    assert answered_at_first_step is False, "all events came at the end"
    kinds = [kind for kind, _ in events]
    assert kinds.index("loading") < kinds.index("started") < kinds.index("progress")
    assert kinds[-1] == "done"
    steps = [document["progress"]["step"] for kind, document in events if kind == "progress"]
    assert steps == sorted(steps)
    assert len(set(steps)) > 1
    assert events[-2][1]["progress"]["total"] > 1


def test_a_result_survives_a_dropped_connection(server: Server) -> None:
    """The client sends a job, and is cut off before it has read a byte of the answer."""
    body, port = picture(), server.port
    head = (
        f"POST /models/{MODEL} HTTP/1.1\r\nhost: x\r\nx-request-id: dropped\r\n"
        f"prefer: respond-async, wait=60\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head.encode() + body)
        kinds = [kind for kind, _ in _until_started(server, "dropped")]
    assert kinds
    url = f"{server.url}/requests/dropped/result"
    fetched = httpx.get(url, headers={"prefer": "wait=100"}, timeout=WAIT_S)
    assert fetched.status_code == 200
    assert Image.open(io.BytesIO(fetched.content)).size == (1600, 1600)


def _until_started(server: Server, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in told(server, name):
        yield event
        if event[1]["state"] in ("running", "done"):
            return


def test_a_reader_that_was_cut_off_goes_on_where_it_was(server: Server) -> None:
    assert post(server, "again", picture(), "respond-async").status_code == 202
    first = next(told(server, "again"))
    assert first[1]["state"] != "done"
    kinds = [kind for kind, _ in told(server, "again")]
    assert kinds[-1] == "done"


def test_cancelling_frees_the_processor(server: Server) -> None:
    assert post(server, "long", picture(1500), "respond-async").status_code == 202
    for kind, _ in told(server, "long"):
        if kind == "progress":
            break
    gone = httpx.delete(f"{server.url}/requests/long", timeout=WAIT_S)
    assert gone.json()["state"] == "cancelled"
    answer = post(server, "next", picture(64))
    assert answer.status_code == 200
    assert int(answer.headers["x-queue-time"]) < 20_000


def test_a_server_that_ends_tells_its_readers(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-s", "60") as server:
        assert post(server, "last", picture(), "respond-async").status_code == 202
        kinds = []
        for kind, _ in told(server, "last"):
            if kind == "started":
                server.signal(signal.SIGTERM)
            kinds.append(kind)
        assert kinds[-1] == "done", "a job that runs is finished"
        assert server.wait() == 0
