"""Pipelines of diffusers with random weights, and one run of an edit by Calotype or by diffusers.

    python benchmarks/diffusion_model.py --way calotype --folder DIR --pipeline pix2pix

Prints as JSON what was measured. ``diffusion.py`` starts it in a process of its own for each run,
so that none inherits memory or warmth.
"""

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calotype.domain.image import Pixels

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

WAYS = ("calotype", "diffusers", "diffusers-bf16")
CLASSES = {
    "pix2pix": "StableDiffusionInstructPix2PixPipeline",
    "img2img": "StableDiffusionImg2ImgPipeline",
}
PROMPT = "make it snow"
STRENGTH = 1.0
"""Of img2img: all steps are made."""
RUNS = 3
"""The first compiles for the size. Prompts and pictures differ, so nothing is reused."""


def place_of(folder: Path, pipeline: str) -> Path:
    """Return where a pipeline is kept; each has a folder of models of its own."""
    return folder / pipeline / "models" / "random" / pipeline


def build(folder: Path, pipeline: str, *, tiny: bool) -> Path:
    """Write a pipeline, unless it is there."""
    import torch

    import pipelines

    place = place_of(folder, pipeline)
    if (place / "model_index.json").is_file():
        return place
    print(f"writing {pipeline} into {place}", flush=True)
    torch.manual_seed(0)
    make: Callable[[], Any] = getattr(pipelines, pipeline)
    pipe = make() if tiny else real(pipeline)
    pipe.save_pretrained(place, safe_serialization=True)
    name_as_on_the_hub(place / "text_encoder" / "model.safetensors")
    return place


def name_as_on_the_hub(file: Path) -> None:
    """Give a text encoder's weights the names that published checkpoints have.

    Newer transformers write shorter ones, which the older that optimum-intel needs doesn't know: it
    would take random weights, and say so in a warning only.
    """
    from safetensors.torch import load_file, save_file

    prefix = "text_model."
    found = load_file(file)
    named = {f"{prefix}{name.removeprefix(prefix)}": values for name, values in found.items()}
    save_file(named, file, metadata={"format": "pt"})


def real(pipeline: str) -> Any:  # noqa: ANN401  the library has no types
    """Return Stable Diffusion 1's sizes: 860 million weights in the UNet, 84 VAE, 123 encoder."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    import pipelines

    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        in_channels=8 if pipeline == "pix2pix" else 4,
        out_channels=4,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    numbers = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    depth = {"num_hidden_layers": 12, "num_attention_heads": 12}
    return getattr(diffusers, CLASSES[pipeline])(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**numbers, **sizes, **depth)),
        tokenizer=pipelines.tokenizer(),
        unet=unet,
        scheduler=pipelines.schedule(diffusers.EulerAncestralDiscreteScheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


Edit = Callable[[Pixels, str], Pixels]


def load_calotype(told: argparse.Namespace) -> tuple[Edit, str]:
    """Load as the server does."""
    from calotype.backends.diffusers import load
    from calotype.catalog.scan import scan_models_dir
    from calotype.running import machine_of
    from calotype.settings import Settings
    from models import job

    own = told.folder / told.pipeline
    settings = Settings(cache_dir=str(own / "cache"), cache_disk_bytes=0)
    (spec,) = scan_models_dir(own / "models")
    backend = load(spec, lambda _: b"", machine_of(settings))
    extra = {"strength": STRENGTH} if told.pipeline == "img2img" else {}

    def edit(pixels: Pixels, prompt: str) -> Pixels:
        values = {"prompt": prompt, "num_inference_steps": told.steps, "seed": 0, **extra}
        return backend.run([job(spec, pixels, values)])[0].pixels

    return edit, backend.precision


def load_diffusers(told: argparse.Namespace) -> tuple[Edit, str]:
    """Load as its documentation does."""
    import diffusers
    import torch
    from PIL import Image

    half = told.way.endswith("bf16")
    kind = getattr(diffusers, CLASSES[told.pipeline])
    dtype = torch.bfloat16 if half else torch.float32
    pipe: Any = kind.from_pretrained(place_of(told.folder, told.pipeline), dtype=dtype)
    if half:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    extra = {"strength": STRENGTH} if told.pipeline == "img2img" else {}

    def edit(pixels: Pixels, prompt: str) -> Pixels:
        images = pipe(
            prompt,
            image=Image.fromarray(pixels),
            num_inference_steps=told.steps,
            generator=torch.Generator().manual_seed(0),
            **extra,
        ).images
        return np.asarray(images[0])

    return edit, "bf16, channels last" if half else "f32, its default"


def main() -> None:
    """Load, run, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pipeline", choices=tuple(CLASSES), required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    pixels = np.load(told.picture)
    began_s = time.perf_counter()
    edit, what = load_calotype(told) if told.way == "calotype" else load_diffusers(told)
    ready_s = time.perf_counter() - began_s
    seconds = []
    for number in range(RUNS):
        rolled = np.roll(pixels, number, axis=0)
        began_s = time.perf_counter()
        found = edit(rolled, f"{PROMPT} {number}")
        seconds.append(time.perf_counter() - began_s)
        if not number:
            np.save(told.output, found)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured = {"ready_s": ready_s, "first_s": seconds[0], "run_s": min(seconds[1:])}
    print(json.dumps(measured | {"what": what, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main()
