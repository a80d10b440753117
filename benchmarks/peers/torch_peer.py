"""A super-resolution checkpoint in PyTorch, opened by spandrel.

    python torch_peer.py --weights FILE.safetensors --way eager --precision f32

Loads, prints a line with the seconds that took, and then runs the picture that each line on stdin
names, and prints the seconds of that. Runs in an environment that has torch and spandrel.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spandrel import ModelLoader

Picture = Any
"""(h, w, 3) uint8, RGB; or (n, h, w, 3), the tiles of a larger one."""


def main() -> None:
    """Load, then answer line after line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--way", choices=("eager", "compiled"), required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), required=True)
    told = parser.parse_args()
    began_s = time.perf_counter()
    run = load(told.weights, told.way, told.precision)
    say(ready_s=time.perf_counter() - began_s)
    kept: dict[str, Picture] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["picture"] not in kept:
            kept = {order["picture"]: np.load(order["picture"])}
        began_s = time.perf_counter()
        with torch.inference_mode():
            found = run_all(kept[order["picture"]], run, keep=bool(order["output"]))
        seconds = time.perf_counter() - began_s
        if order["output"]:
            np.save(order["output"], found)
        say(seconds=seconds)


def say(**words: float) -> None:
    """Print one line of JSON."""
    print(json.dumps(words), flush=True)


def run_all(pixels: Picture, run: Callable[[Picture], Picture], *, keep: bool) -> Picture:
    """Run a picture, or tile after tile of one; what isn't wanted is let go at once."""
    if pixels.ndim == 3:
        return run(pixels)
    found = [run(tile) if keep else run(tile) is None for tile in pixels]
    return np.stack(found) if keep else None


def load(weights: str, way: str, precision: str) -> Callable[[Picture], Picture]:
    """Return what runs one picture, or one tile."""
    network: Any = ModelLoader(torch.device("cpu")).load_from_file(weights).model.eval()
    dtype, form = torch.float32, torch.contiguous_format
    if precision == "bf16":
        dtype, form = torch.bfloat16, torch.channels_last
    network = network.to(dtype=dtype, memory_format=form)
    if way == "compiled":
        network = torch.compile(network, dynamic=False)

    def run(pixels: Picture) -> Picture:
        given = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(dtype) / 255
        found = network(given.contiguous(memory_format=form))[0].permute(1, 2, 0)
        return found.float().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()

    return run


if __name__ == "__main__":
    main()
