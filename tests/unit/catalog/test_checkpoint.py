import pytest

from calotype.catalog.checkpoint import choose_weights, needed_files
from calotype.errors import InvalidCatalogError

INDEX: dict[str, object] = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
DIFFUSERS = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "model.fp16.safetensors"], ["model.fp16.safetensors"]),
        (["model.safetensors", "model.bin"], ["model.safetensors"]),
        (["model.non_ema.safetensors", "model.safetensors"], ["model.safetensors"]),
        ([f"{DIFFUSERS}.safetensors", "small.safetensors"], [f"{DIFFUSERS}.safetensors"]),
        (["model.safetensors", "quantized.fp16.safetensors"], ["model.safetensors"]),
        (["odd.safetensors"], ["odd.safetensors"]),
        (["model.fp16.bin", "model.safetensors"], ["model.safetensors"]),
        (["model.non_ema.safetensors"], []),
        (["model.fp16-00001-of-00002.safetensors"], []),
        (["model.safetensors.index.json"], []),
        ([], []),
    ],
)
def test_which_weights_are_taken(names: list[str], expected: list[str]) -> None:
    assert choose_weights(names) == expected


@pytest.mark.parametrize(
    "half",
    [
        ["model.fp16-00001-of-00002.safetensors", "model.safetensors.index.fp16.json"],
        ["model.fp16-00001-of-00002.safetensors", "model.fp16.safetensors.index.json"],
        ["model-00001-of-00002.fp16.safetensors", "model.fp16.safetensors.index.json"],
    ],
)
def test_shards_come_with_their_index(half: list[str]) -> None:
    plain = ["model-00001-of-00004.safetensors", "model.safetensors.index.json"]
    pickled = ["pytorch_model-00001-of-00004.bin", "pytorch_model.bin.index.json"]
    assert choose_weights([*plain, *pickled]) == plain
    assert choose_weights([*plain, *half, *pickled]) == half
    assert choose_weights([*half, "model.fp16.safetensors"]) == ["model.fp16.safetensors"]
    assert choose_weights([*plain, half[0]]) == plain


def test_what_a_pipeline_is_run_from() -> None:
    needed = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "tokenizer/spiece.model",
        "tokenizer/vocab.json",
        "unet/config.json",
        f"unet/{DIFFUSERS}.fp16.safetensors",
    ]
    others = [
        ".gitattributes",
        "README.md",
        "all-ema.ckpt",
        "all.safetensors",
        "feature_extractor/preprocessor_config.json",
        "scheduler/.hidden.json",
        "unet/code.py",
        "unet/deeper/config.json",
        f"unet/{DIFFUSERS}.bin",
        f"unet/{DIFFUSERS}.bin.index.json",
        f"unet/{DIFFUSERS}.fp16.bin",
        f"unet/{DIFFUSERS}.non_ema.safetensors",
        f"unet/{DIFFUSERS}.safetensors",
        f"unet/{DIFFUSERS}.safetensors.index.json",
        "unet/flax_model.msgpack",
        "unet/model.onnx",
    ]
    assert sorted(needed_files(INDEX, [*others, *needed])) == needed


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([f"{DIFFUSERS}.bin"], "its unet has pickled weights only"),
        (["model.ckpt", "config.json"], "its unet has pickled weights only"),
        (["model.onnx"], "its unet has weights for other programs only"),
        (["model.ema.safetensors", "model.bin"], "neither plain nor fp16 weights, but model.ema"),
        ([f"model.{n}.safetensors" for n in "abcd"], r"model\.c\.safetensors, \.\.\.$"),
        ([], "its unet isn't in the repository"),
    ],
)
def test_a_part_without_weights(held: list[str], message: str) -> None:
    names = ["scheduler/c.json", "tokenizer/v.json", *(f"unet/{name}" for name in held)]
    with pytest.raises(InvalidCatalogError, match=message):
        needed_files(INDEX, names)
