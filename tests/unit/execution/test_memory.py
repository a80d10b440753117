"""How much memory there is, and how much a process holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calotype.execution import memory
from calotype.execution.memory import machine_bytes, peak_bytes, reset_peak, resident_bytes

PEAK = """
import os
import numpy as np
from calotype.execution.memory import peak_bytes, reset_peak, resident_bytes

np.ones(1000)
reset_peak()
before = peak_bytes()
much = np.ones(80 * {mb}, np.uint8)
assert resident_bytes(os.getpid()) > before + 60 * {mb}
del much
assert peak_bytes() > before + 60 * {mb}
reset_peak()
assert peak_bytes() < before + 20 * {mb}
"""
MB = 1_000_000
PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("3000000\n", 3 * MB), ("max\n", PHYSICAL), ("9223372036854771712", PHYSICAL), ("", PHYSICAL)],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: int
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(content)
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "absent"), str(limit)))
    assert machine_bytes() == expected


def test_this_machine_has_some() -> None:
    assert 0 < machine_bytes() <= PHYSICAL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")
def test_a_process_that_is_gone_holds_nothing() -> None:
    assert resident_bytes(os.getpid()) > MB
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    assert resident_bytes(gone.pid) == 0
    assert resident_bytes(0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the peak anew")
def test_the_peak_is_that_of_the_last_run() -> None:
    # In a process where nothing else allocates, as other tests' threads may here.
    subprocess.run([sys.executable, "-c", PEAK.format(mb=MB)], check=True, timeout=60)


def test_where_the_system_counts_no_peak_the_highest_ever_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*_: object, **__: object) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", nothing)
    monkeypatch.setattr(Path, "write_text", nothing)
    reset_peak()
    assert peak_bytes() > MB
