"""Folders of diffusers pipelines as models; nothing here imports PyTorch."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calotype.catalog import signature
from calotype.catalog.scan import scan_models_dir
from calotype.domain.diffusion import guidance_name, mapping
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError

pytest.importorskip("diffusers", reason="needs the extra diffusers")

PIX2PIX = "StableDiffusionInstructPix2PixPipeline"


def pipeline(
    folder: Path, class_name: Any = PIX2PIX, name: str = "acme/edit", **parts: Any
) -> Path:
    place = folder / name
    (place / "unet").mkdir(parents=True)
    (place / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    (place / "unet" / "config.json").write_text("{}")
    index = {"_class_name": class_name, "unet": ["diffusers", "UNet2DConditionModel"], **parts}
    (place / "model_index.json").write_text(json.dumps(index))
    return place


def scanned(folder: Path) -> ModelSpec:
    (spec,) = scan_models_dir(folder)
    return spec


def test_a_pipeline_is_a_model(tmp_path: Path) -> None:
    pipeline(tmp_path)
    spec = scanned(tmp_path)
    assert (spec.id, spec.backend, spec.task, spec.scale) == (
        "acme/edit",
        "diffusers",
        "image-to-image",
        1,
    )
    assert [param.name for param in spec.params] == [
        "prompt", "negative_prompt", "guidance_scale", "image_guidance_scale",
        "num_inference_steps", "seed", "loras",
    ]  # fmt: skip
    steps = spec.param("num_inference_steps")
    assert steps is not None
    assert (steps.default, steps.minimum, steps.maximum) == (100, 1, 500)
    assert {file.role for file in spec.files} == {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


def test_a_name_with_dots_is_a_name(tmp_path: Path) -> None:
    pipeline(tmp_path, name="acme/edit-1.5")
    (tmp_path / "acme" / "edit-1.5.toml").write_text('alias = "edit"\n')
    spec = scanned(tmp_path)
    assert (spec.id, spec.alias) == ("acme/edit-1.5", "edit")


@pytest.mark.parametrize(
    ("saved", "served"),
    [
        ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
        ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
        ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"),
        ("FluxPipeline", "FluxImg2ImgPipeline"),
        ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
        ("QwenImagePipeline", "QwenImageImg2ImgPipeline"),
        ("ZImagePipeline", "ZImageImg2ImgPipeline"),
    ],
)
def test_checkpoints_for_text_are_served_for_pictures(
    tmp_path: Path, saved: str, served: str
) -> None:
    pipeline(tmp_path, saved)
    spec = scanned(tmp_path)
    assert spec.options["class"] == served
    assert spec.param("strength") is not None


@pytest.mark.parametrize(
    ("class_name", "task", "scale", "among"),
    [
        ("StableDiffusionInpaintPipeline", "inpainting", 1, "mask_image"),
        ("FluxFillPipeline", "inpainting", 1, "mask_image"),
        ("StableDiffusionUpscalePipeline", "super-resolution", 4, "noise_level"),
        ("StableDiffusionLatentUpscalePipeline", "super-resolution", 2, "guidance_scale"),
        ("FluxKontextPipeline", "image-to-image", 1, "true_cfg_scale"),
        ("QwenImageEditPipeline", "image-to-image", 1, "guidance_scale"),
        ("QwenImageEditPlusPipeline", "image-to-image", 1, "negative_prompt"),
        ("StableDiffusionXLInstructPix2PixPipeline", "image-to-image", 1, "image_guidance_scale"),
        ("StableDiffusionDepth2ImgPipeline", "image-to-image", 1, "strength"),
        ("Flux2KleinPipeline", "image-to-image", 1, "num_inference_steps"),
    ],
)
def test_any_class_that_takes_a_picture(
    tmp_path: Path, class_name: str, task: str, scale: int, among: str
) -> None:
    pipeline(tmp_path, class_name)
    spec = scanned(tmp_path)
    assert (spec.task, spec.scale) == (task, scale)
    assert spec.param(among) is not None


def test_distilled_checkpoints_have_their_own_defaults(tmp_path: Path) -> None:
    pipeline(tmp_path, "StableDiffusionXLPipeline", name="acme/sdxl-turbo")
    spec = scanned(tmp_path)
    defaults = {param.name: param.default for param in spec.params}
    assert (defaults["num_inference_steps"], defaults["guidance_scale"]) == (4, 0.0)


def test_the_file_beside_it_beats_what_was_found(tmp_path: Path) -> None:
    pipeline(tmp_path, "StableDiffusionPipeline")
    (tmp_path / "acme" / "edit.toml").write_text(
        'options.class = "StableDiffusionInpaintPipeline"\n'
        "[parameters.num_inference_steps]\ndefault = 20\nmaximum = 60\n"
    )
    spec = scanned(tmp_path)
    steps = spec.param("num_inference_steps")
    assert spec.param("mask_image") is not None
    assert steps is not None
    assert (steps.default, steps.minimum, steps.maximum) == (20, 1, 60)


def test_a_wrong_file_beside_it_stops_the_start(tmp_path: Path) -> None:
    pipeline(tmp_path)
    (tmp_path / "acme" / "edit.toml").write_text("nonsense = 1\n")
    with pytest.raises(InvalidCatalogError, match="nonsense is not a key"):
        scan_models_dir(tmp_path)


@pytest.mark.parametrize(
    ("class_name", "parts", "said"),
    [
        (["acme", "Own"], {}, "needs code from its own repository, which is never run"),
        (PIX2PIX, {"vae": ["my_code", "Vae"]}, "its vae needs code from its own repository"),
        ("StableDiffusionPix2PixZeroV9", {}, "the installed diffusers has no pipeline"),
        ("DDPMPipeline", {}, "takes no picture"),
        ("StableVideoDiffusionPipeline", {}, "gives no picture"),
        ("MarigoldDepthPipeline", {}, "gives no picture"),
        ("FluxPriorReduxPipeline", {}, "gives no picture"),
        ("StableDiffusionControlNetImg2ImgPipeline", {}, "needs control_image"),
        ("KandinskyV22Img2ImgPipeline", {}, "needs image_embeds and negative_image_embeds"),
    ],
)
def test_what_cannot_be_served_is_left_out_and_said(
    tmp_path: Path, class_name: Any, parts: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline(tmp_path, class_name, **parts)
    with caplog.at_level(logging.WARNING):
        assert scan_models_dir(tmp_path) == []
    assert said in caplog.text


def test_pickles_are_never_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = pipeline(tmp_path)
    (place / "unet" / "diffusion_pytorch_model.safetensors").rename(
        place / "unet" / "diffusion_pytorch_model.bin"
    )
    assert scan_models_dir(tmp_path) == []
    assert "its unet has pickled weights only" in caplog.text


def test_networks_inside_a_pipeline_are_no_models(tmp_path: Path) -> None:
    place = pipeline(tmp_path)
    (place / "unet" / "model.onnx").write_bytes(b"x")
    assert [spec.id for spec in scan_models_dir(tmp_path)] == ["acme/edit"]


def test_a_damaged_index_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pipeline(tmp_path) / "model_index.json").write_text("{")
    assert scan_models_dir(tmp_path) == []
    assert "model_index.json can't be read" in caplog.text


def test_without_the_library_a_pipeline_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "installed", lambda: False)
    pipeline(tmp_path)
    assert scanned(tmp_path).params == ()


def test_signatures_are_read_without_importing_pytorch() -> None:
    code = (
        "import sys; from calotype.catalog.signature import read_signature as r;"
        f"assert r('{PIX2PIX}').takes_loras; assert r('os') is None; assert r('a b') is None;"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_guidance_goes_by_its_usual_name() -> None:
    usual = {"guidance_scale": 7.5, "negative_prompt": None}
    edit = {"guidance_scale": None, "true_cfg_scale": 4.0, "negative_prompt": None}
    distilled = {"guidance_scale": 3.5, "true_cfg_scale": 1.0, "negative_prompt": None}
    assert mapping(usual)["guidance_scale"] == "guidance_scale"
    assert mapping(edit)["guidance_scale"] == "true_cfg_scale"
    assert "true_cfg_scale" not in mapping(edit)
    assert mapping(distilled)["true_cfg_scale"] == "true_cfg_scale"
    assert [guidance_name(d) for d in (usual, edit, distilled, {})] == [
        "guidance_scale", "guidance_scale", "true_cfg_scale", "",
    ]  # fmt: skip
