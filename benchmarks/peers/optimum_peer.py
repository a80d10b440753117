"""An edit by optimum-intel: Stable Diffusion's image-to-image pipeline on OpenVINO.

    python optimum_peer.py --pipeline FOLDER --converted FOLDER --picture IN.npy --output OUT.npy

Converts the pipeline unless that was done before, then runs it three times, and prints as JSON what
was measured. Runs in an environment that has optimum-intel.
"""

import argparse
import json
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optimum.intel import OVStableDiffusionImg2ImgPipeline  # type: ignore[import-not-found]
from PIL import Image

RUNS = 3


def main() -> None:
    """Load, run, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, required=True, help="a folder of diffusers")
    parser.add_argument("--converted", type=Path, required=True, help="where it is kept")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--strength", type=float, required=True)
    parser.add_argument("--prompt", required=True)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    if not told.converted.exists():
        convert(told.pipeline, told.converted)
    pixels = np.load(told.picture)
    began_s = time.perf_counter()
    pipe = load(told.converted, *pixels.shape[:2])
    ready_s = time.perf_counter() - began_s
    seconds = []
    for number in range(RUNS):
        image = Image.fromarray(np.roll(pixels, number, axis=0))
        began_s = time.perf_counter()
        found = pipe(
            f"{told.prompt} {number}",
            image=image,
            strength=told.strength,
            num_inference_steps=told.steps,
            generator=torch.Generator().manual_seed(0),
        ).images[0]
        seconds.append(time.perf_counter() - began_s)
        if not number:
            np.save(told.output, np.asarray(found))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured = {"ready_s": ready_s, "first_s": seconds[0], "run_s": min(seconds[1:])}
    print(json.dumps(measured | {"what": "its default", "peak_bytes": peak_bytes}))


def convert(pipeline: Path, place: Path) -> None:
    """Convert with weights as they are."""
    pipe = OVStableDiffusionImg2ImgPipeline.from_pretrained(
        pipeline, export=True, compile=False, load_in_8bit=False
    )
    pipe.save_pretrained(place)


def load(place: Path, height: int, width: int) -> Any:  # noqa: ANN401  the library has no types
    """Compile for one shape, as its documentation advises for speed."""
    pipe: Any = OVStableDiffusionImg2ImgPipeline.from_pretrained(
        place, compile=False, safety_checker=None
    )
    pipe.reshape(batch_size=1, height=height, width=width, num_images_per_prompt=1)
    pipe.compile()
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    main()
