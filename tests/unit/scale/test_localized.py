"""Workers whose files are brought first."""

from dataclasses import replace
from pathlib import Path

import pytest

from calotype.catalog.weights import locate
from calotype.domain.model import ModelSpec
from calotype.domain.request import Loras
from calotype.errors import MissingWeightsError
from calotype.scale.localized import localizing
from calotype.scale.weights import NodeWeights
from nodes import Near, depot_of, elsewhere
from unit.execution.scripted import Stage, job


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "there" / "models"
    (folder / "loras").mkdir(parents=True)
    (folder / "net.onnx").write_bytes(b"weights")
    (folder / "loras/ink.safetensors").write_bytes(b"ink")
    return folder


@pytest.fixture
def source(models: Path, tmp_path: Path) -> Near:
    return Near(depot_of(models), tmp_path)


@pytest.fixture
def node(source: Near, tmp_path: Path) -> NodeWeights:
    return NodeWeights(tmp_path / "here", source)


@pytest.fixture
def net(source: Near, models: Path, tmp_path: Path) -> ModelSpec:
    return elsewhere(source.depot.pull("net")[0], models, tmp_path / "nowhere")


async def test_a_worker_is_made_of_files_that_are_here(net: ModelSpec, node: NodeWeights) -> None:
    stage, made = Stage(), []

    def make(spec: ModelSpec) -> object:
        made.append(spec)
        return stage.make_worker(spec)

    worker = localizing(make, node)(net)  # type: ignore[arg-type]
    await worker.load()
    assert locate(made[0].files[0]).read_bytes() == b"weights"
    assert replace(made[0], files=()) == replace(net, files=())
    assert worker.traits.precision == "none (scripted)"
    assert worker.usage.resident_bytes == stage.part(net).resident_bytes
    await worker.close()
    assert worker.ended.done()


async def test_a_model_whose_files_cannot_be_had_is_not_loaded(
    net: ModelSpec, node: NodeWeights, source: Near
) -> None:
    source.away, stage = True, Stage()
    worker = localizing(stage.make_worker, node)(net)
    with pytest.raises(MissingWeightsError, match="away"):
        await worker.load()
    worker.kill()
    await worker.close()
    assert stage.part(net).loads == 0


async def test_a_job_without_its_adapter_fails_alone(
    net: ModelSpec, node: NodeWeights, source: Near
) -> None:
    stage = Stage()
    worker = localizing(stage.make_worker, node)(net)
    await worker.load()
    inked = job(net, 1, loras=Loras((("ink", 1.0),)))
    answers = await worker.run([job(net, 0), inked])
    assert (node.adapters_dir / "ink.safetensors").read_bytes() == b"ink"
    assert len(stage.part(net).runs[0]) == 2
    source.away = True
    odd = job(net, 2, loras=Loras((("absent", 1.0),)))
    answers = await worker.run([odd, inked, job(net, 3)])
    assert isinstance(answers[0], MissingWeightsError)
    assert not any(isinstance(answer, Exception) for answer in answers[1:])
    assert len(stage.part(net).runs[1]) == 2
    assert isinstance((await worker.run([odd]))[0], MissingWeightsError)
    assert len(stage.part(net).runs) == 2
    await worker.close()
