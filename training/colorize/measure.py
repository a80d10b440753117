"""How well colours go with the truth's."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.colorize.colour import lab_of_rgb
from training.colorize.network import STRIDE, annealed
from training.photos import large

SHORT_SIDE = 128


def chroma_correlation(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the mean correlation of a* and of b* of two (h, w, 3) sRGB pictures; 0 where none."""
    return _correlation(_lab(made)[1:], _lab(truth)[1:])


def colourfulness(pixels: NDArray[np.uint8]) -> float:
    """Return how colourful (h, w, 3) sRGB is, after Hasler and Süsstrunk (2003)."""
    r, g, b = np.moveaxis(pixels.astype(np.float64), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    spread = np.hypot(rg.std(), yb.std())
    return float(spread + 0.3 * np.hypot(rg.mean(), yb.mean()))


def lightness_difference(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the largest difference of L*."""
    return float((_lab(made)[0] - _lab(truth)[0]).abs().max())


@torch.no_grad()
def held_out_score(network: nn.Module, centres: Tensor, source: Path) -> float:
    """Return the mean chroma correlation of the held-out photos, at a short side of 128 px."""
    scores = []
    for small in _held_out_small(source):
        logits, _ = network((small[:1] / 50 - 1)[None].to(centres.device))
        mean = annealed(logits, centres, 0.7).cpu()
        mean = functional.interpolate(mean, small.shape[1:], mode="bilinear")[0]
        scores.append(_correlation(mean, small[1:]))
    return float(np.mean(scores))


@cache
def _held_out_small(source: Path) -> list[Tensor]:
    small = []
    for pixels in large(source, held_out=True):
        lab = _lab(pixels)
        scale = SHORT_SIDE / min(lab.shape[1:])
        size = [max(STRIDE, round(n * scale / STRIDE) * STRIDE) for n in lab.shape[1:]]
        small.append(functional.interpolate(lab[None], size, mode="area")[0])
    return small


def _correlation(made: Tensor, truth: Tensor) -> float:
    x = made.flatten(1) - made.flatten(1).mean(1, keepdim=True)
    y = truth.flatten(1) - truth.flatten(1).mean(1, keepdim=True)
    size = (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-9)
    return float(((x * y).sum(1) / size).mean())


def _lab(pixels: NDArray[np.uint8]) -> Tensor:
    return lab_of_rgb(torch.tensor(pixels).permute(2, 0, 1).float() / 255)
