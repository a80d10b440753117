"""Unmodified clients get right pictures: huggingface_hub today's and 0.27.1, and JavaScript."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compat import prepare

CLIENT = Path(__file__).with_name("hub_client.py")
MIDDLE = (120, 65, 120)


def run_client(python: Path | str, server: str, picture: Path) -> dict[str, Any]:
    environ = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_INFERENCE_ENDPOINT": server}
    done = subprocess.run(
        [python, CLIENT, server, picture],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=["today", "0.27.1"])
def answers(request: pytest.FixtureRequest, server: str, picture: Path) -> dict[str, Any]:
    python = sys.executable if request.param == "today" else prepare.old_hub()
    found = run_client(python, server, picture)
    assert (found["version"] == "0.27.1") == (request.param == "0.27.1")
    return found


@pytest.mark.parametrize(
    ("case", "width", "height"),
    [
        ("model", 160, 96),
        ("path", 160, 96),
        ("scale", 80, 48),
        ("size", 100, 60),
        ("base_url", 80, 48),
        ("argument", 120, 72),
        ("style", 40, 24),
        ("chain", 80, 48),
        ("async model", 160, 96),
        ("async scale", 80, 48),
        ("async size", 100, 60),
    ],
)
def test_python_client(answers: dict[str, Any], case: str, width: int, height: int) -> None:
    found_width, found_height, colour = answers[case]
    assert (found_width, found_height) == (width, height)
    near = max(abs(a - b) for a, b in zip(colour, MIDDLE, strict=True))
    if case == "style":
        assert near > 10, "not styled"
    else:
        assert near <= 12, "not the same picture"


def test_python_client_by_endpoint(answers: dict[str, Any]) -> None:
    """Version 0.27 asks another endpoint by a variable; today's has no such thing."""
    expected = [80, 48] if answers["version"] == "0.27.1" else None
    found = answers.get("endpoint")
    assert (found[:2] if found else None) == expected


def test_python_client_sees_what_was_wrong(answers: dict[str, Any]) -> None:
    status, message = answers["error"]
    assert status == 422
    assert "scale must be one of 2, 3, 4, got 7" in message


def test_python_client_logs_what_was_ignored(answers: dict[str, Any]) -> None:
    if answers["version"] == "0.27.1":
        assert "log" in answers  # that version shows no warning headers
    else:
        assert "prompt was ignored" in answers["log"]


@pytest.fixture(scope="module")
def node_answers(
    server: str, picture: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    folder, out = prepare.node_client(), tmp_path_factory.mktemp("node")
    client = folder / "client.mjs"
    client.write_bytes((Path(__file__).parent / "node" / "client.mjs").read_bytes())
    done = subprocess.run(
        ["node", client, server, picture, out],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), out


@pytest.mark.parametrize(
    ("case", "size"),
    [("plain", (160, 96)), ("scale", (80, 48)), ("size", (100, 60)), ("style", (40, 24))],
)
def test_node_client(
    node_answers: tuple[dict[str, Any], Path], case: str, size: tuple[int, int]
) -> None:
    found, out = node_answers
    assert found[case][0].startswith("image/"), found[case]
    with Image.open(out / case) as image:
        assert image.size == size


def test_node_client_sees_what_was_wrong(node_answers: tuple[dict[str, Any], Path]) -> None:
    kind, message = node_answers[0]["wrong"]
    assert kind == "error"
    assert "scale must be one of 2, 3, 4, got 7" in message
