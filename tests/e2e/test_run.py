import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMAND = [sys.executable, "-m", "calotype"]
SLOW = """
[[model]]
id = "test/slow"
backend = "fake"
[model.options]
steps = 40
step_s = 0.01

[[model]]
id = "test/loading"
backend = "fake"
[model.options]
load_s = 60
"""


def heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, one of which may be this very run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(arguments: list[str], env: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a command that Ctrl-C reaches."""
    return subprocess.Popen(
        arguments,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  nothing else runs in this process
    )


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment far from the user's own folders."""
    (tmp_path / "slow.toml").write_text(SLOW)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALOTYPE_")}
    return kept | {
        "CALOTYPE_DATA_DIR": str(tmp_path / "data"),
        "CALOTYPE_CACHE_DIR": str(tmp_path / "cache"),
        "CALOTYPE_CATALOG_FILE": str(tmp_path / "slow.toml"),
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twenty pictures."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        pixels = np.full((8, 8, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def test_an_interrupt_leaves_whole_files_and_the_rest_for_later(
    env: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*COMMAND, "run", "test/slow", str(pictures), "-o", str(out)]
    with start(arguments, env) as process:
        deadline_s = time.monotonic() + 30
        while not list(out.glob("*.png")) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    done = len(list(out.glob("*.png")))
    assert process.returncode == 130
    assert 0 < done < 20
    assert f"interrupted: {done} of 20 done; the same command goes on from there" in said
    assert "Traceback" not in said
    assert not [path for path in out.iterdir() if path.suffix != ".png"]
    for path in out.iterdir():
        with Image.open(path) as image:
            image.load()
    again = subprocess.run(arguments, env=env, capture_output=True, text=True, check=True)
    assert f"{20 - done} done, {done} skipped" in again.stderr


def test_an_interrupt_does_not_wait_for_a_model_that_loads(
    env: dict[str, str], pictures: Path
) -> None:
    arguments = [*COMMAND, "run", "test/loading", str(pictures / "00.png"), "--progress"]
    with start(arguments, env) as process:
        assert process.stderr is not None
        process.stderr.read(1)  # the bar is drawn
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: 0 of 1 done" in said


def test_a_pipe(env: dict[str, str], pictures: Path) -> None:
    body = (pictures / "07.png").read_bytes()
    result = subprocess.run(
        [*COMMAND, "run", "test/slow", "-"], env=env, input=body, capture_output=True, check=True
    )
    assert result.stdout.startswith(b"\x89PNG")
    assert result.stderr == b""


def test_an_interrupt_leaves_nothing_of_a_huge_picture(env: dict[str, str], tmp_path: Path) -> None:
    source, out = tmp_path / "in.jpg", tmp_path / "out"
    Image.new("RGB", (20_000, 3_300), "teal").save(source)
    target = out / "a.png"
    arguments = [*COMMAND, "run", "test/slow", str(source), "-o", str(target), "--no-progress"]
    with start(arguments, env) as process:
        deadline_s = time.monotonic() + 60
        while not list(out.glob(".a.png.partial-*")) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert list(out.iterdir()), "it is not written as it is made"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "interrupted: 0 of 1 done; the same command goes on from there\n"
    assert not list(out.iterdir())
    subprocess.run([*arguments, "--format", "png"], env=env, check=True, capture_output=True)
    with Image.open(target) as image:
        assert image.size == (20_000, 3_300)
