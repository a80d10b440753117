"""What is done to networks once they are read."""

from pathlib import Path

import diffusers
import pytest
import torch
from transformers import Qwen3Config, Qwen3Model

from calotype.backends.base import Machine
from calotype.backends.diffusion import load
from calotype.backends.diffusion.seam import lay_channels_last
from calotype.errors import MissingExtraError
from diffusion.conftest import Family


def test_a_language_model_that_encodes_keeps_nothing_for_a_next_word() -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    model, words = Qwen3Model(config), torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        before = model(words)
        load._make_ready(model)
        after = model(words)
    assert before.past_key_values is not None
    assert after.past_key_values is None
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)


def test_weights_of_films_stay_as_they_are() -> None:
    flat, deep = torch.nn.Conv2d(4, 4, 3), torch.nn.Conv3d(4, 4, 3)
    lay_channels_last(torch.nn.Sequential(flat, deep))
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert deep.weight.is_contiguous()


def test_a_missing_package_is_named(
    families: dict[str, Family], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImportError("\nQwen2VLVideoProcessor requires the Torchvision library\nmore")

    monkeypatch.setattr(diffusers.StableDiffusionImg2ImgPipeline, "from_pretrained", fail)
    with pytest.raises(MissingExtraError, match=r"img2img can't be loaded.*Torchvision library$"):
        load.load_pipeline(families["img2img"].spec, Machine(cache_dir=tmp_path, precision="f32"))
