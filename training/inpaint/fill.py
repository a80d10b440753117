"""A trained network as a way to fill holes, to measure it beside the others.

python benchmarks/inpaint.py --network /tmp/inpaint/inpaint.pt
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.inpaint.network import STRIDE, Inpainter

Pixels = NDArray[np.uint8]


def load(kept: Path) -> Callable[[Pixels, Pixels], Pixels]:
    """Return what fills a hole: ((h, w, 3), (h, w) mask) -> (h, w, 3), all uint8."""
    network = Inpainter().eval()
    network.load_state_dict(torch.load(kept, weights_only=True, map_location="cpu")["network"])

    @torch.inference_mode()
    def fill(pixels: Pixels, mask: Pixels) -> Pixels:
        h, w = mask.shape
        extra = [(0, -h % STRIDE), (0, -w % STRIDE)]
        padded = np.pad(pixels, [*extra, (0, 0)], mode="edge")
        picture = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1
        hole = torch.from_numpy(np.pad(mask > 0, extra)).float()[None, None]
        made = network(picture, hole)[0].permute(1, 2, 0).numpy()[:h, :w]
        made = np.rint((made + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return np.where(mask[:, :, None] > 0, made, pixels)

    return fill
