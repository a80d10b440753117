"""Versions of adapters, as the source has them."""

from pathlib import Path

import pytest

from calotype.domain.model import ModelSpec
from calotype.domain.request import Loras, Stage
from calotype.scale.stamp import AWAY_S, KEPT_S, UNKNOWN, AdapterStamps
from nodes import Near, depot_of
from workers import Clock

INK = Stage(
    model=ModelSpec(id="a", backend="fake", revision="1"),
    values={"loras": Loras((("ink", 1.0), ("absent", 1.0)))},
)


@pytest.fixture
def source(tmp_path: Path) -> Near:
    (tmp_path / "models/loras").mkdir(parents=True)
    (tmp_path / "models/loras/ink.safetensors").write_bytes(b"ink")
    return Near(depot_of(tmp_path / "models"), tmp_path)


def test_a_changed_adapter_has_another_stamp_a_moment_later(source: Near, tmp_path: Path) -> None:
    clock = Clock()
    stamps = AdapterStamps(source, clock)
    before = stamps(INK)
    assert before.endswith(" absent")
    (tmp_path / "models/loras/ink.safetensors").write_bytes(b"another")
    assert stamps(INK) == before
    clock.now_s += KEPT_S
    assert stamps(INK) != before
    assert stamps(INK) == AdapterStamps(source, clock)(INK), "servers agree"


def test_the_last_stamp_counts_while_the_source_is_away(source: Near) -> None:
    clock = Clock()
    stamps = AdapterStamps(source, clock)
    before = stamps(INK)
    source.away = True
    clock.now_s += KEPT_S
    assert stamps(INK) == before.replace("absent", UNKNOWN)
    assert AdapterStamps(source, clock)(INK) == f"{UNKNOWN} {UNKNOWN}"
    source.away = False
    clock.now_s += AWAY_S
    assert stamps(INK) == before


def test_a_request_without_adapters_asks_nobody(source: Near) -> None:
    source.away = True
    stage = Stage(model=INK.model, values={})
    assert AdapterStamps(source)(stage) == ""
