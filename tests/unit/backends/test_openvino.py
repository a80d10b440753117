"""Compiled networks on disk, and the choice of precision."""

import json
import logging
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from calotype.backends import openvino as engine_module
from calotype.backends.base import Machine
from calotype.backends.openvino import Engine
from calotype.errors import MissingWeightsError


def double() -> ov.Model:
    first = op.parameter([1, 4], np.float32)
    return ov.Model([op.result(op.multiply(first, op.constant(np.float32(2))))], [first], "double")


def refuse() -> ov.Model:
    raise AssertionError("built although it was compiled before")


def run(compiled: ov.CompiledModel) -> list[float]:
    found = compiled(np.arange(4, dtype=np.float32)[None])[0][0]
    return [float(value) for value in found]


def engine(folder: Path | None) -> Engine:
    return Engine(Machine(cache_dir=folder, precision="f32"))


def test_compiled_once_for_all_starts(tmp_path: Path) -> None:
    first = engine(tmp_path).compile("double", "id", double)
    again = engine(tmp_path).compile("double", "id", refuse)
    assert run(first) == run(again) == [0, 2, 4, 6]
    assert not list((tmp_path / "compiled").glob(".partial-*"))


def test_another_identity_is_compiled_anew(tmp_path: Path) -> None:
    engine(tmp_path).compile("double", "id", double)
    with pytest.raises(AssertionError, match="built although"):
        engine(tmp_path).compile("double", "other", refuse)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_blob_is_compiled_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine(tmp_path).compile("double", "id", double)
    (blob,) = (tmp_path / "compiled").glob("*.blob")
    data = bytearray(blob.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    blob.write_bytes({"empty": b"", "cut": bytes(data[:50])}.get(damage, bytes(data)))
    with caplog.at_level(logging.WARNING):
        assert run(engine(tmp_path).compile("double", "id", double)) == [0, 2, 4, 6]
    assert "compiling anew" in caplog.text
    assert run(engine(tmp_path).compile("double", "id", refuse)) == [0, 2, 4, 6]


def test_a_folder_that_cannot_be_written_costs_only_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "compiled").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert run(engine(tmp_path).compile("double", "id", double)) == [0, 2, 4, 6]
    assert "was not kept" in caplog.text


def test_a_network_that_cannot_be_compiled_is_named() -> None:
    def broken() -> ov.Model:
        raise RuntimeError("unsupported")

    with pytest.raises(MissingWeightsError, match="net: OpenVINO can't compile it"):
        engine(None).compile("net", "id", broken)


@pytest.mark.parametrize(("f32_s", "bf16_s", "chosen"), [(2.0, 1.0, "bf16"), (1.0, 2.0, "f32")])
def test_auto_takes_what_is_faster_here(
    monkeypatch: pytest.MonkeyPatch, f32_s: float, bf16_s: float, chosen: str
) -> None:
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16 to choose")
    seconds = {"f32": f32_s, "bf16": bf16_s}
    monkeypatch.setattr(
        engine_module, "_probe", lambda config: seconds[config["INFERENCE_PRECISION_HINT"]]
    )
    found = Engine(Machine(precision="auto"))
    assert found.precision == chosen
    assert f"{f32_s / bf16_s:.2f}x" in found.reason


def test_the_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Engine(Machine(cache_dir=tmp_path))
    measured = list((tmp_path / "compiled").glob("precision-*.json"))
    if not measured:
        assert "no bf16" in first.reason
        return

    def refuse_probe(config: object) -> float:
        raise AssertionError(f"measured again: {config}")

    monkeypatch.setattr(engine_module, "_probe", refuse_probe)
    assert Engine(Machine(cache_dir=tmp_path)).description == first.description
    measured[0].write_text(json.dumps(["nonsense"]))
    with pytest.raises(AssertionError, match="measured again"):
        Engine(Machine(cache_dir=tmp_path))


def test_bf16_where_there_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Plain:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(engine_module, "_core", Plain)
    with caplog.at_level(logging.WARNING):
        found = Engine(Machine(precision="bf16"))
    assert found.precision == "f32"
    assert "this processor has none" in caplog.text
    assert Engine(Machine(precision="auto")).reason == "this processor has no bf16"
