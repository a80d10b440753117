"""What is remembered of loads, between starts, and of runs."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from calotype.execution.history import BASE_BYTES, BASE_S, FIRST_SERVICE_S, KEPT, History
from unit.execution.scripted import spec

NET, OTHER = spec("net"), spec("other")


def test_loads_survive_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "new" / "loads.json"
    history = History(file)
    for seconds, size in ((1.0, 100), (9.0, 300), (2.0, 200)):
        history.loaded(NET, seconds, size)
    again = History(file)
    assert again.load_s(NET) == 2.0
    assert again.resident_bytes(NET) == again.measured_bytes(NET) == 200
    assert again.measured_bytes(OTHER) == 0


def test_other_weights_are_measured_anew() -> None:
    history = History()
    history.loaded(NET, 9.0, 300)
    changed = replace(NET, revision="2")
    assert history.load_s(changed) == BASE_S
    assert history.measured_bytes(changed) == 0


def test_the_first_guess_goes_by_the_size_of_the_files() -> None:
    history = History()
    large = spec("large", size_bytes=300_000_000)
    assert history.load_s(NET) == BASE_S
    assert history.load_s(large) == pytest.approx(10.5)
    assert history.resident_bytes(NET) == BASE_BYTES
    assert history.resident_bytes(large) == 850_000_000
    assert history.measured_bytes(large) == 0


def test_old_loads_are_forgotten(tmp_path: Path) -> None:
    history = History(tmp_path / "loads.json")
    for _ in range(50):
        history.loaded(NET, 100.0)
    for _ in range(KEPT // 2 + 1):
        history.loaded(NET, 1.0)
    assert history.load_s(NET) == 1.0
    (record,) = json.loads((tmp_path / "loads.json").read_bytes()).values()
    assert len(record["loads_s"]) == KEPT


def test_a_load_that_was_not_measured_does_not_undo_one_that_was() -> None:
    history = History()
    history.loaded(NET, 1.0)
    assert history.resident_bytes(NET) == BASE_BYTES
    history.loaded(NET, 1.0, 5_000)
    history.loaded(NET, 1.0)
    assert history.resident_bytes(NET) == 5_000


def test_what_a_worker_holds_after_runs_counts_and_is_kept_where_it_is_news(
    tmp_path: Path,
) -> None:
    file = tmp_path / "loads.json"
    history = History(file)
    history.loaded(NET, 1.0, 1000)
    for held, known in ((500, 1000), (2000, 2000), (2100, 2000), (900, 1000)):
        history.rested(NET, held)
        assert history.resident_bytes(NET) == known
        assert History(file).resident_bytes(NET) == known
    assert History(file).load_s(NET) == 1.0


def test_runs_are_guessed_from_the_model_else_from_all() -> None:
    history = History()
    assert history.service_s(NET) == FIRST_SERVICE_S
    history.served(OTHER, 2.0)
    history.served(OTHER, 4.0)
    assert history.service_s(NET) == 3.0
    history.served(NET, 10.0)
    assert history.service_s(NET) == 10.0
    assert history.service_s(OTHER) == 3.0


def test_old_runs_are_forgotten() -> None:
    history = History()
    for seconds in (*[100.0] * 50, *[2.0] * 16):
        history.served(NET, seconds)
    assert history.service_s(NET) == 2.0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "\x00",
        '{"a": 1}',
        '{"org/net 1": ["x"]}',
        '{"org/net 1": {"loads_s": [3.0]}}',
        '{"org/net 1": {"loads_s": 3.0, "resident_bytes": 1}}',
        '{"org/net 1": {"loads_s": ["x"], "resident_bytes": 1}}',
        '{"org/net 1": {"loads_s": [null], "resident_bytes": 1}}',
        '{"org/net 1": {"loads_s": [3.0], "resident_bytes": "1"}}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "loads.json"
    file.write_text(content)
    history = History(file)
    assert history.load_s(NET) == BASE_S
    assert history.resident_bytes(NET) == BASE_BYTES
    if content != "[]":
        assert "unreadable" in caplog.text
    history.loaded(NET, 4.0, 9)
    assert History(file).load_s(NET) == 4.0


def test_a_file_that_can_not_be_written_is_said_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    with caplog.at_level(logging.WARNING):
        history = History(blocked / "loads.json")
        history.loaded(NET, 4.0)
    assert "are not kept" in caplog.text
    assert history.load_s(NET) == 4.0
