"""Two servers that share a store, as processes; one of them is killed."""

import io
import signal
from pathlib import Path

import httpx
from PIL import Image

from e2e.server import serving
from redis_server import RedisServer

WAIT_S = 60.0
CATALOG = """
[[model]]
id = "test/echo"
alias = "echo"
backend = "fake"

[[model]]
id = "test/slow"
alias = "slow"
backend = "fake"
[model.options]
step_s = 0.05
steps = 100000
"""


def picture() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((8, 8)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def post(url: str, model: str, name: str) -> httpx.Response:
    headers = {"prefer": "respond-async", "x-request-id": name}
    return httpx.post(f"{url}/models/{model}", content=picture(), headers=headers, timeout=WAIT_S)


def result(url: str, name: str) -> httpx.Response:
    headers = {"prefer": "wait=60"}
    return httpx.get(f"{url}/requests/{name}/result", headers=headers, timeout=WAIT_S)


def test_what_is_known_of_a_server_that_is_killed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG)
    arguments = ["--catalog-file", str(catalog), "--default-model", "echo"]
    arguments += ["--store-url", redis_server.url]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with serving(tmp_path / "a", *arguments) as a, serving(tmp_path / "b", *arguments) as b:
        assert post(a.url, "echo", "done").status_code == 202
        made = result(b.url, "done")
        assert made.status_code == 200, made.text
        assert post(a.url, "slow", "lost").status_code == 202
        assert post(b.url, "slow", "kept").status_code == 202
        a.signal(signal.SIGKILL)
        a.wait()
        lost = result(b.url, "lost")
        assert (lost.status_code, lost.json()["error_type"]) == (503, "lost")
        assert result(b.url, "done").content == made.content
        gone = httpx.delete(f"{b.url}/requests/kept", timeout=WAIT_S)
        assert gone.json()["state"] == "cancelled"
        assert httpx.delete(f"{b.url}/requests/lost", timeout=WAIT_S).status_code == 204
        assert post(b.url, "echo", "lost").status_code == 202  # its id is free
        assert result(b.url, "lost").status_code == 200
        b.signal(signal.SIGTERM)
        assert b.wait() == 0
        assert "Traceback" not in b.said
