"""Diffusion: an edit by instruct-pix2pix at full size, against diffusers itself.

The network has the real configuration and random weights, as its own need a download of 4 GB.
Each way runs in a process of its own, all in turn, so that none inherits memory or warmth.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("calotype", "diffusers", "diffusers-bf16")
STEPS = 10
SIDE_PX = 256
PROMPT = "make it snow"


def build(folder: Path) -> Path:
    """Write the pipeline: 860 million weights in the UNet, 84 in the VAE, 123 in the encoder."""
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerAncestralDiscreteScheduler,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    import pipelines

    place = folder / "models" / "random" / "instruct-pix2pix"
    if (place / "model_index.json").is_file():
        return place
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=8,
        out_channels=4,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    pipe: Any = StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=pipelines.tokenizer(),
        unet=unet,
        scheduler=pipelines.schedule(EulerAncestralDiscreteScheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(place, safe_serialization=True)
    return place


def picture(side: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    from models import photo

    return photo(side, side)


def run_calotype(folder: Path, steps: int, side: int) -> dict[str, Any]:
    from calotype.assembly import machine_of
    from calotype.backends.diffusers import load
    from calotype.catalog.scan import scan_models_dir
    from calotype.settings import Settings
    from models import job

    settings = Settings(cache_dir=str(folder / "cache"), cache_disk_bytes=0)
    (spec,) = scan_models_dir(folder / "models")
    started_s = time.perf_counter()
    backend = load(spec, lambda _: b"", machine_of(settings))
    ready_s = time.perf_counter() - started_s
    seconds, image = [], None
    for number in range(3):  # the first compiles for the size; prompts differ, so nothing is reused
        parameters = {"prompt": f"{PROMPT} {number}", "num_inference_steps": steps, "seed": 0}
        pixels = np.roll(picture(side), number, axis=0)
        started_s = time.perf_counter()
        (image,) = backend.run([job(spec, pixels, parameters)])
        seconds.append(time.perf_counter() - started_s)
    assert image is not None
    return {
        "ready_s": ready_s,
        "first_s": seconds[0],
        "run_s": min(seconds[1:]),
        "what": backend.precision,
    }


def run_diffusers(folder: Path, steps: int, side: int, *, half: bool) -> dict[str, Any]:
    import torch
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL import Image

    started_s = time.perf_counter()
    dtype = torch.bfloat16 if half else torch.float32
    pipe: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        folder / "models" / "random" / "instruct-pix2pix", dtype=dtype
    )
    if half:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    ready_s = time.perf_counter() - started_s
    seconds = []
    for number in range(3):
        image = Image.fromarray(np.roll(picture(side), number, axis=0))
        started_s = time.perf_counter()
        pipe(
            f"{PROMPT} {number}",
            image=image,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(0),
        )
        seconds.append(time.perf_counter() - started_s)
    what = "bf16, channels last" if half else "f32, its default"
    return {"ready_s": ready_s, "first_s": seconds[0], "run_s": min(seconds[1:]), "what": what}


def run_one(way: str, folder: Path, steps: int, side: int) -> None:
    """Run one way, and print what was measured."""
    warnings.simplefilter("ignore")
    if way == "calotype":
        measured = run_calotype(folder, steps, side)
    else:
        measured = run_diffusers(folder, steps, side, half=way.endswith("bf16"))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(measured | {"peak_bytes": peak_bytes}))


def compare(folder: Path, steps: int, side: int, rounds: int) -> None:
    """Run all ways in turn, and print a table of ratios."""
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    options = ["--folder", str(folder), "--steps", str(steps), "--side", str(side)]
    for _ in range(rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"# {way}: {results[way][-1]}", flush=True)
    print(f"instruct-pix2pix (860 M), {side}x{side}, {steps} steps, {rounds} rounds\n")
    print("| way | seconds | Calotype is faster by | ready in | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    for way in WAYS:
        runs, ours = results[way], results["calotype"]
        ratios = [a["run_s"] / b["run_s"] for a, b in zip(runs, ours, strict=True)]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"
        print(
            f"| {way}: {runs[-1]['what']} | {statistics.median(r['run_s'] for r in runs):.1f}"
            f" | {spread if way != 'calotype' else ''} | {runs[-1]['ready_s']:.1f} s"
            f" | {max(r['peak_bytes'] for r in runs) / 1e9:.1f} GB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path, help="where the pipeline is, or is made, and kept")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    if chosen.way:
        run_one(chosen.way, chosen.folder, chosen.steps, chosen.side)
        return
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="calotype-bench-"))
    try:
        build(folder)
        compare(folder, chosen.steps, chosen.side, chosen.rounds)
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
