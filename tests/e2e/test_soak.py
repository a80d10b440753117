"""A minute of the soak benchmark: what must hold for hours has to hold for that long."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"
LIMIT_S, END_S = 180.0, 40.0


@pytest.mark.timeout(240)
def test_a_minute_of_everything_at_once() -> None:
    # In a minute the server's memory is still settling: ten are needed to see 5 %.
    growth = ["--growth", "15"]
    command = [sys.executable, str(SCRIPT), "--seconds", "60", "--kill-every", "5", *growth]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as soak:
        try:
            said, _ = soak.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            soak.terminate()  # not killed, so that it ends its server
            said, _ = soak.communicate(timeout=END_S)
    assert soak.returncode == 0, said
