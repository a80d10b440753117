import json
from collections.abc import Mapping

import pytest

from calotype.catalog import signature
from calotype.catalog.choice import Choice, choose
from calotype.catalog.hub import RemoteFile, Repository
from calotype.errors import MissingExtraError, MissingWeightsError

PIX2PIX: dict[str, object] = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
}
PIPELINE = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")


def _choose(
    *names: str,
    pattern: str = "",
    lora: bool = False,
    tags: tuple[str, ...] = (),
    index: Mapping[str, object] = PIX2PIX,
) -> tuple[Choice, ...]:
    """Choose of a repository that holds files of such names."""
    files = tuple(RemoteFile(name=name) for name in names)
    repository = Repository(id="acme/nets", commit="c", tags=frozenset(tags), files=files)
    content = json.dumps(index).encode()
    return choose(repository, lambda _: content, pattern, lora=lora)


def _targets(choices: tuple[Choice, ...]) -> dict[str, str]:
    return {path: file.name for choice in choices for path, file in choice.files.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.onnx", "README.md"], ["acme/nets"]),
        (["a.param", "a.bin"], ["acme/nets"]),
        (["a.onnx", "a.param", "a.bin"], ["acme/nets"]),
        (["a.onnx", "b.onnx"], ["acme/nets-a", "acme/nets-b"]),
        (["a b.onnx", "c/d.onnx"], ["acme/nets-a-b", "acme/nets-c-d"]),
        (["a.onnx", "big.onnx", "big.onnx_data"], ["acme/nets"]),
        (["a.onnx", "a.safetensors"], ["acme/nets"]),
        (["a.pth", "a.safetensors", "a.pt"], ["acme/nets"]),
        (["x2.pth", "x4.pth", "x4.safetensors"], ["acme/nets-x2", "acme/nets-x4"]),
    ],
)
def test_how_networks_are_named(names: list[str], expected: list[str]) -> None:
    choices = _choose(*names)
    assert [choice.id for choice in choices] == expected
    assert {choice.kind for choice in choices} == {"network"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["big.onnx", "big.onnx_data"], "external data"),
        (["a.param"], r"holds no .onnx or .param with .bin or .safetensors or .*; it holds a\.pa"),
        (["1", "2", "3", "4", "5", "6"], "1, 2, 3, 4, 5 and 1 more"),
        ([], "it holds nothing"),
    ],
)
def test_a_repository_without_anything_to_open(names: list[str], message: str) -> None:
    with pytest.raises(MissingWeightsError, match=message):
        _choose(*names)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["a.onnx", "a.param", "a.bin", "a.safetensors"], ["a.onnx"]),
        (["a.param", "a.bin", "a.safetensors"], ["a.param", "a.bin"]),
        (["a.param", "a.safetensors"], ["a.safetensors"]),
        (["a.onnx", "a.onnx_data", "a.pth"], ["a.pth"]),
        (["a.ckpt", "a.pt", "a.pth", "a.safetensors"], ["a.safetensors"]),
        (["a.ckpt", "a.pt", "a.PTH"], ["a.PTH"]),
    ],
)
def test_one_network_of_each_stem(names: list[str], taken: list[str]) -> None:
    """What needs no PyTorch first, and pickles last."""
    (choice,) = _choose(*names)
    assert [file.name for file in choice.files.values()] == taken


def test_a_pattern_chooses_another_form() -> None:
    (choice,) = _choose("a.onnx", "a.pth", pattern="*.pth")
    assert list(choice.files) == ["acme/nets.pth"]


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(MissingWeightsError, match=r"in acme/nets matches z\*; it holds a\.onnx"):
        _choose("a.onnx", pattern="z*")


def test_a_name_that_no_model_can_have() -> None:
    repository = Repository(id="_acme/nets", commit="c", files=(RemoteFile(name="a.onnx"),))
    with pytest.raises(MissingWeightsError, match="_acme/nets cannot be a model's name"):
        choose(repository, lambda _: b"")


def test_a_pipeline_keeps_its_paths() -> None:
    (choice,) = choices = _choose(*PIPELINE, "whole.safetensors", "unet/x.bin", "a.onnx")
    assert (choice.kind, choice.id, choice.place) == ("pipeline", "acme/nets", "acme/nets")
    assert _targets(choices) == {f"acme/nets/{name}": name for name in PIPELINE}


def test_an_adapter_beside_a_pipeline_is_left_there() -> None:
    (choice,) = _choose(*PIPELINE, "pytorch_lora_weights.safetensors", tags=("lora",))
    assert choice.kind == "pipeline"
    (choice,) = choices = _choose(*PIPELINE, "pytorch_lora_weights.safetensors", lora=True)
    assert choice.kind == "adapter"
    assert _targets(choices) == {"loras/acme/nets.safetensors": "pytorch_lora_weights.safetensors"}


def test_networks_beside_a_pipeline_are_asked_for_by_name() -> None:
    (choice,) = _choose(*PIPELINE, "unet/model.onnx", pattern="*.onnx")
    assert choice.kind == "network"


def test_a_pipeline_without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "installed", lambda: False)

    def read(_: RemoteFile) -> bytes:
        raise AssertionError("nothing is downloaded")

    files = tuple(RemoteFile(name=name) for name in PIPELINE)
    with pytest.raises(MissingExtraError, match=r"pip install 'calotype\[diffusers\]'"):
        choose(Repository(id="acme/nets", commit="c", files=files), read)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": "TextToVideoSDPipeline"}, "TextToVideoSDPipeline takes no picture"),
        ({"_class_name": "NewPipeline"}, "diffusers has no pipeline NewPipeline"),
        ({"_class_name": ["mine", "Own"]}, "needs code from its own repository"),
        ({"unet": ["mine", "Net"]}, "its unet needs code from its own repository, which is never"),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "its vae isn't in the repository"),
        ({"../up": ["diffusers", "AutoencoderKL"]}, "its ../up isn't in the repository"),
    ],
)
def test_a_pipeline_that_cannot_be_served(index: dict[str, object], message: str) -> None:
    with pytest.raises(MissingWeightsError, match=f"acme/nets can't be served: .*{message}"):
        _choose(*PIPELINE, "../up/config.json", index=PIX2PIX | index)


def test_a_pipeline_of_pickles() -> None:
    with pytest.raises(
        MissingWeightsError,
        match=r"its unet has pickled weights only, .*; ask its authors .*@refs/pr/1",
    ):
        _choose("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("names", "tags", "expected"),
    [
        (["pytorch_lora_weights.safetensors", "other.safetensors"], (), "pytorch_lora_weights"),
        (["pixel.safetensors", "README.md"], ("lora",), "pixel"),
        (["pixel.safetensors", "old/pixel.safetensors"], ("lora",), "pixel"),
        (["pixel.safetensors", "pixel.onnx"], ("lora",), "pixel"),
    ],
)
def test_an_adapter_is_known(names: list[str], tags: tuple[str, ...], expected: str) -> None:
    (choice,) = choices = _choose(*names, tags=tags)
    assert (choice.kind, choice.id, choice.place) == ("adapter", "acme/nets", "loras/acme/nets")
    assert _targets(choices) == {"loras/acme/nets.safetensors": f"{expected}.safetensors"}


def test_any_file_is_an_adapter_if_that_is_said() -> None:
    assert _targets(_choose("deep/x.safetensors", lora=True)) == {
        "loras/acme/nets.safetensors": "deep/x.safetensors"
    }


@pytest.mark.parametrize(("lora", "tags"), [(True, ()), (False, ("lora",))])
def test_one_of_several_adapters(lora: bool, tags: tuple[str, ...]) -> None:
    names = ("v1.safetensors", "v2.safetensors", "README.md")
    with pytest.raises(
        MissingWeightsError, match=r"--file chooses one: v1\.safetensors, v2\.safetensors$"
    ):
        _choose(*names, lora=lora, tags=tags)
    choices = _choose(*names, lora=lora, tags=tags, pattern="v2*")
    assert list(_targets(choices).values()) == ["v2.safetensors"]


def test_a_pattern_beats_the_usual_name() -> None:
    names = ("pytorch_lora_weights.safetensors", "v2.safetensors")
    choices = _choose(*names, lora=True, pattern="v2*")
    assert list(_targets(choices).values()) == ["v2.safetensors"]
    with pytest.raises(MissingWeightsError, match="--file chooses one"):
        _choose(*names, pattern="*.safetensors")


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["a.onnx"], "", r"holds no \.safetensors; it holds a\.onnx"),
        (["a.bin"], "", "holds no .safetensors but pickles, which can carry code"),
        (["a.safetensors"], "b*", r"no \.safetensors in acme/nets matches b\*; it holds a"),
    ],
)
def test_no_adapter(names: list[str], pattern: str, message: str) -> None:
    with pytest.raises(MissingWeightsError, match=message):
        _choose(*names, lora=True, pattern=pattern)
