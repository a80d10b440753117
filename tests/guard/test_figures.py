"""The guard itself, without valgrind."""

import re
from pathlib import Path

import pytest

from guard import figures, record
from guard.callgrind import CountError, _collect
from guard.figures import Recording
from guard.paths import ROUNDS, WINDOWS

PROFILE = Path("out/guard/tiling.callgrind")
VERSIONS = {"numpy": "2.4.6", "python": "3.11.7"}


def tiling(instructions: int, **versions: str) -> Recording:
    return Recording(instructions={"tiling": instructions}, versions=VERSIONS | versions)


def problem(now: int, **versions: str) -> str | None:
    return figures.problem("tiling", tiling(20_000), tiling(now, **versions), PROFILE)


@pytest.mark.parametrize("now", [18_000, 19_999, 20_000, 22_000])
def test_a_tenth_is_allowed(now: int) -> None:
    assert problem(now) is None


def test_what_takes_more_fails_and_says_all_that_is_needed() -> None:
    said = problem(22_200) or ""
    assert said.startswith(
        "tiling: 22,200 instructions a call; 20,000 are committed, ratio 1.110;"
        " allowed are 18,000 to 22,000 (±10%)."
    )
    assert "It takes more now" in said
    assert f"callgrind_annotate --inclusive=no {PROFILE}" in said
    assert "make guard-record" in said
    assert "Versions" not in said


def test_what_takes_less_fails_too_and_asks_for_the_new_figure() -> None:
    said = problem(17_800) or ""
    assert "ratio 0.890" in said
    assert "record the new figure" in said


def test_a_failure_names_the_versions_that_differ() -> None:
    assert "Versions differ from the recorded ones: numpy 2.4.6 -> 2.5.0." in (
        problem(30_000, numpy="2.5.0") or ""
    )


def test_a_path_without_a_figure_fails() -> None:
    none = Recording(instructions={}, versions=VERSIONS)
    assert "make guard-record" in (figures.problem("tiling", none, tiling(1), PROFILE) or "")


def test_recording_keeps_the_figures_of_others(tmp_path: Path) -> None:
    file = tmp_path / "instructions.json"
    assert figures.read(file) == {}
    figures.write("CPython 3.13", tiling(1), file)
    figures.write("CPython 3.11", tiling(2), file)
    figures.write("CPython 3.13", tiling(3), file)
    assert figures.read(file) == {"CPython 3.11": tiling(2), "CPython 3.13": tiling(3)}


def test_every_committed_recording_has_every_path() -> None:
    for recording in figures.read().values():
        assert set(recording.instructions) == set(ROUNDS)
        assert all(number > 0 for number in recording.instructions.values())


def test_the_key_names_python_and_the_machine() -> None:
    assert re.match(r"\w+ 3\.\d+, \w+, \w+", figures.key_here())


def test_the_table_compares() -> None:
    assert re.search(
        r"tiling +22,000 +20,000 +1\.100", record.table(tiling(22_000), tiling(20_000))
    )
    assert re.search(r"tiling +22,000 +- +-", record.table(tiling(22_000), None))


def dumps(folder: Path, number: int) -> Path:
    """Write dumps as callgrind does: those between the windows are small."""
    rounds = [each for each in ROUNDS.values() for _ in range(WINDOWS)]
    for index in range(number):
        window, is_window = divmod(index, 2)
        off = (window % WINDOWS - 1) * 1000  # the middle window of each path is right
        total = 500 * rounds[window] + off if is_window else 7
        text = f"version: 1\nevents: Ir\n\nfn=(1) main\n1 1\n\ntotals: {total}\n"
        (folder / f"dump.{index + 1}").write_text(text, "utf-8")
    return folder / "dump"


def test_the_middle_window_of_each_path_counts(tmp_path: Path) -> None:
    out = dumps(tmp_path, 2 * WINDOWS * len(ROUNDS))
    assert _collect(out, tmp_path) == dict.fromkeys(ROUNDS, 500)
    assert f"totals: {500 * ROUNDS['tiling']}" in (tmp_path / "tiling.callgrind").read_text("utf-8")


@pytest.mark.parametrize("number", [0, 3])
def test_missing_marks_are_no_figures(tmp_path: Path, number: int) -> None:
    with pytest.raises(CountError, match=f"callgrind saw {number} calls of getloadavg"):
        _collect(dumps(tmp_path, number), tmp_path)
