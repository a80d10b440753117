"""Adapters: added for one request, and gone without a trace."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from api.server import problem_of, serving
from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import DiffusersBackend, load
from calotype.backends.diffusion import adapter as additions
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidParameterError
from diffusion.conftest import Family, png, shown
from diffusion.test_equal import EXACT
from models import job, psnr

RANK = 2


def adapter(family: Family, seed: int = 0) -> dict[str, Tensor]:
    """Make an adapter for attention, a gated layer, an upsampler, and the text encoder."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(family.folder / "unet")
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    chosen = ("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.0.proj", "upsamplers.0.conv")
    for name, layer in unet.named_modules():
        if not name.endswith(chosen):
            continue
        weight = layer.weight
        down = (RANK, *weight.shape[1:])
        up = (weight.shape[0], RANK, *(1,) * (weight.dim() - 2))
        state[f"unet.{name}.lora_A.weight"] = torch.randn(down, generator=generator) * 0.3
        state[f"unet.{name}.lora_B.weight"] = torch.randn(up, generator=generator) * 0.3
    for layer in range(2):
        stem = f"text_encoder.text_model.encoder.layers.{layer}.self_attn.q_proj"
        state[f"{stem}.lora_A.weight"] = torch.randn((RANK, 32), generator=generator)
        state[f"{stem}.lora_B.weight"] = torch.randn((32, RANK), generator=generator)
    return state


@pytest.fixture(scope="module")
def loras(families: dict[str, Family], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    (folder / "acme").mkdir()
    family = families["img2img"]
    save_file(adapter(family), folder / "acme" / "pixel.safetensors")
    save_file(adapter(family, 1), folder / "ink.safetensors")
    other = {
        "unet.nowhere.lora_A.weight": torch.ones(2, 4),
        "unet.nowhere.lora_B.weight": torch.ones(4, 2),
    }
    save_file(other, folder / "other.safetensors")
    save_file({"something": torch.ones(2)}, folder / "nothing.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    return folder


@pytest.fixture(scope="module", params=["torch", "openvino"])
def backend(
    request: pytest.FixtureRequest,
    families: dict[str, Family],
    loras: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> DiffusersBackend:
    options = Diffusion(engine=request.param, loras_dir=loras)
    cache = tmp_path_factory.mktemp("lora-cache")
    machine = Machine(precision="f32", cache_dir=cache, diffusion=options)
    return load(families["img2img"].spec, lambda _: b"", machine)


def run(backend: DiffusersBackend, spec: ModelSpec, pixels: Pixels, **parameters: Any) -> Pixels:
    (answer,) = backend.run([job(spec, pixels, parameters)])
    return answer.pixels


def direct(family: Family, loras: Path, pixels: Pixels, scales: dict[str, float]) -> Pixels:
    """Return what diffusers itself makes with adapters."""
    pipe: Any = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(family.folder)
    pipe.set_progress_bar_config(disable=True)
    names = []
    for number, name in enumerate(scales):
        path = loras / f"{name}.safetensors"
        pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"a{number}")
        names.append(f"a{number}")
    pipe.set_adapters(names, list(scales.values()))
    parameters = family.parameters
    generator = torch.Generator().manual_seed(parameters.pop("seed"))
    with torch.inference_mode():
        result = pipe(image=PIL.Image.fromarray(pixels), generator=generator, **parameters)
    answer: Pixels = np.array(result.images[0])
    return answer


@pytest.mark.parametrize(
    "scales", [{"acme/pixel": 1.0}, {"acme/pixel": -0.5}, {"acme/pixel": 0.7, "ink": 0.6}]
)
def test_adapters_do_what_they_do_in_diffusers(
    scales: dict[str, float],
    backend: DiffusersBackend,
    families: dict[str, Family],
    loras: Path,
    pixels: Pixels,
) -> None:
    family = families["img2img"]
    without = run(backend, family.spec, pixels, **family.parameters)
    wanted = [{"id": name, "scale": scale} for name, scale in scales.items()]
    found = run(backend, family.spec, pixels, **family.parameters, loras=wanted)
    expected = direct(family, loras, pixels, scales)
    assert psnr(found, expected) > 50
    assert psnr(found, without) < 40, "it had no effect"
    again = run(backend, family.spec, pixels, **family.parameters)
    assert np.array_equal(again, without), "something of it was left"


def test_wrong_adapters_are_refused(
    backend: DiffusersBackend, families: dict[str, Family], pixels: Pixels
) -> None:
    family = families["img2img"]
    for name, said in (
        ("acme/absent", "there is no adapter acme/absent on this server; there are: acme/pixel"),
        ("other", "other is for another model: this one has no unet.nowhere"),
        ("nothing", "nothing holds something, and only plain LoRA is supported"),
        ("broken", "broken can't be read as an adapter"),
    ):
        with pytest.raises(InvalidParameterError, match=said):
            run(backend, family.spec, pixels, **family.parameters, loras=[name])


@pytest.mark.parametrize(
    "metadata",
    [
        {"unet.lora_alpha": 1},
        {"unet.lora_alpha": 4, "unet.use_rslora": True},
        {"unet.lora_alpha": 2, "unet.alpha_pattern": {"attn1.to_q": 6}},
    ],
)
def test_scales_are_read_as_diffusers_reads_them(
    metadata: dict[str, Any], families: dict[str, Family], tmp_path: Path, pixels: Pixels
) -> None:
    family = families["img2img"]
    state = {key: value for key, value in adapter(family).items() if key.startswith("unet.")}
    full = {"unet.r": RANK, "unet.target_modules": ["to_q", "to_k", "to_out.0", "proj", "conv"]}
    told = {"lora_adapter_metadata": json.dumps(full | metadata)}
    save_file(state, tmp_path / "mine.safetensors", metadata=told)
    options = Diffusion(engine="torch", loras_dir=tmp_path)
    backend = load(family.spec, lambda _: b"", Machine(precision="f32", diffusion=options))
    found = run(backend, family.spec, pixels, **family.parameters, loras=["mine"])
    assert psnr(found, direct(family, tmp_path, pixels, {"mine": 1.0})) > 50


def kohya(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell an adapter as the trainers that most files come from do."""
    names = {"unet": "lora_unet", "text_encoder": "lora_te"}
    spelt: dict[str, Tensor] = {}
    for key, tensor in state.items():
        stem, _, kind = key.removesuffix(".weight").rpartition(".lora_")
        part, _, layer = stem.partition(".")
        name = f"{names[part]}_{layer.replace('.', '_')}"
        spelt[f"{name}.lora_{'down' if kind == 'A' else 'up'}.weight"] = tensor
        spelt[f"{name}.alpha"] = torch.tensor(1.0)
    return spelt


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell the attention of an adapter as the first releases of diffusers did."""
    spelt: dict[str, Tensor] = {}
    for key, tensor in state.items():
        stem, _, kind = key.removesuffix(".weight").rpartition(".lora_")
        block, _, layer = stem.removesuffix(".0").rpartition(".")
        if ".attn" in stem:
            spelt[f"{block}.processor.{layer}_lora.{'down' if kind == 'A' else 'up'}.weight"] = (
                tensor
            )
    return spelt


@pytest.mark.parametrize("spell", [kohya, older])
def test_dialects(
    spell: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    families: dict[str, Family],
    tmp_path: Path,
    pixels: Pixels,
) -> None:
    family, whole = families["img2img"], adapter(families["img2img"])
    unet = {key: tensor for key, tensor in whole.items() if key.startswith("unet.")}
    save_file(spell(unet), tmp_path / "mine.safetensors")
    options = Diffusion(engine="torch", loras_dir=tmp_path)
    backend = load(family.spec, lambda _: b"", Machine(precision="f32", diffusion=options))
    without = run(backend, family.spec, pixels, **family.parameters)
    found = run(backend, family.spec, pixels, **family.parameters, loras=["mine"])
    assert psnr(found, direct(family, tmp_path, pixels, {"mine": 1.0})) > 50
    assert not np.array_equal(found, without)
    # The text encoder's half, which diffusers reads of whole files only, beside the newer spelling.
    save_file(spell(whole), tmp_path / "whole.safetensors")
    kept = whole if spell is kohya else {k: t for k, t in whole.items() if ".attn" in k}
    save_file(kept, tmp_path / "newer.safetensors")
    scale = 1 / RANK if spell is kohya else 1.0
    found = run(backend, family.spec, pixels, **family.parameters, loras=["whole"])
    wanted = run(backend, family.spec, pixels, **family.parameters, loras=f"newer:{scale}")
    assert psnr(found, wanted) > 50


def test_what_fails_halfway_is_taken_back(
    backend: DiffusersBackend, families: dict[str, Family], loras: Path, pixels: Pixels
) -> None:
    family = families["img2img"]
    before = run(backend, family.spec, pixels, **family.parameters)
    state = adapter(family)
    last = [key for key in state if key.endswith("lora_B.weight")][-1]
    save_file(state | {last: torch.ones(99, RANK)}, loras / "shape.safetensors")
    save_file(state | {last: torch.ones(32, RANK + 1)}, loras / "rank.safetensors")
    bias = {last.replace("lora_B.weight", "lora_B.bias"): torch.ones(32)}
    save_file(state | bias, loras / "bias.safetensors")
    for name, said in (
        ("shape", "has another shape"),
        ("rank", "has another shape"),
        ("bias", "only plain LoRA is supported"),
    ):
        with pytest.raises(InvalidParameterError, match=said):
            run(backend, family.spec, pixels, **family.parameters, loras=["acme/pixel", name])
        after = run(backend, family.spec, pixels, **family.parameters)
        assert np.array_equal(before, after), "something of it was left"


def test_memory_that_ends_halfway_leaves_nothing(
    families: dict[str, Family], loras: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, options = families["img2img"], Diffusion(engine="torch", loras_dir=loras)
    backend = load(family.spec, lambda _: b"", Machine(precision="f32", diffusion=options))
    before = run(backend, family.spec, pixels, **family.parameters)
    right = additions.add

    def fail(module: torch.nn.Module, deltas: Any) -> None:
        right(module, dict(list(deltas.items())[:1]))
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(additions, "add", fail)
        with pytest.raises(MemoryError):
            run(backend, family.spec, pixels, **family.parameters, loras=["acme/pixel"])
    after = run(backend, family.spec, pixels, **family.parameters)
    assert np.array_equal(before, after)


async def test_adapters_over_http(
    families: dict[str, Family], loras: Path, tmp_path: Path, pixels: Pixels
) -> None:
    family = families["img2img"]
    async with serving(tmp_path, family.spec, **EXACT, loras_dir=str(loras)) as server:
        plain = await server.run(family.spec.id, png(pixels), **family.parameters)
        listed = await server.run(
            family.spec.id,
            png(pixels),
            **family.parameters,
            loras=[{"id": "acme/pixel", "scale": 0.7}],
        )
        spelt = await server.run(
            family.spec.id, png(pixels), **family.parameters, loras="acme/pixel:0.7"
        )
        assert np.array_equal(shown(listed), shown(spelt))
        assert spelt.headers["x-cache"] == "hit"
        assert not np.array_equal(shown(listed), shown(plain))
        assert (
            '"loras": [{"id": "acme/pixel", "scale": 0.7}]'
            in listed.headers["x-parameters-applied"]
        )
        absent = await server.run(family.spec.id, png(pixels), **family.parameters, loras=["no"])
        assert problem_of(absent)[0] == 422


def test_a_changed_file_is_read_again(
    families: dict[str, Family], tmp_path: Path, pixels: Pixels, exact: Callable[[str], Any]
) -> None:
    del exact
    family, file = families["img2img"], tmp_path / "mine.safetensors"
    save_file(adapter(family, 3), file)
    machine = Machine(precision="f32", diffusion=Diffusion(engine="torch", loras_dir=tmp_path))
    backend = load(family.spec, lambda _: b"", machine)
    first = run(backend, family.spec, pixels, **family.parameters, loras=["mine"])
    save_file(adapter(family, 4), file)
    second = run(backend, family.spec, pixels, **family.parameters, loras=["mine"])
    assert not np.array_equal(first, second)


async def test_a_cached_answer_is_not_that_of_a_file_that_was_replaced(
    families: dict[str, Family], tmp_path: Path, pixels: Pixels
) -> None:
    family, folder = families["img2img"], tmp_path / "loras"
    folder.mkdir()
    save_file(adapter(family, 3), folder / "mine.safetensors")
    async with serving(tmp_path, family.spec, **EXACT, loras_dir=str(folder)) as server:

        async def ask() -> Any:
            parameters = family.parameters | {"loras": ["mine"]}
            return await server.run(family.spec.id, png(pixels), **parameters)

        first, again = await ask(), await ask()
        assert again.headers["x-cache"] == "hit"
        save_file(adapter(family, 4), folder / "mine.safetensors")
        second = await ask()
        assert second.headers["x-cache"] == "miss"
        assert not np.array_equal(shown(first), shown(second))
