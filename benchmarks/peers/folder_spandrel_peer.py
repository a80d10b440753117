"""Enlarge the pictures of a folder with spandrel, as the scripts do that people write with it.

    python folder_spandrel_peer.py --weights FILE.safetensors IN OUT [--bf16]

The network as spandrel opens it, PyTorch's defaults, the picture in one piece, Pillow in and out.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from spandrel import ModelLoader


def main() -> None:
    """Enlarge all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--bf16", action="store_true", help="with channels last, which it likes")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    told = parser.parse_args()
    model = ModelLoader(device="cpu").load_from_file(told.weights).eval()
    dtype, form = torch.float32, torch.contiguous_format
    if told.bf16:
        dtype, form = torch.bfloat16, torch.channels_last
    model.to(dtype)
    model.model.to(memory_format=form)
    told.target.mkdir(parents=True)
    for file in sorted(told.source.iterdir()):
        pixels = np.array(Image.open(file).convert("RGB"))
        given = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(dtype) / 255
        with torch.inference_mode():
            found = model(given.contiguous(memory_format=form))
        large = found[0].float().clamp(0, 1).mul(255).round().to(torch.uint8)
        Image.fromarray(large.permute(1, 2, 0).numpy()).save(told.target / file.name)


if __name__ == "__main__":
    main()
