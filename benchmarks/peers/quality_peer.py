"""PSNR, SSIM and GMSD of pairs of pictures; runs in an environment of its own.

    python quality_peer.py PAIRS.json

The file lists [original, compared, border in pixels]; a list of the metrics is printed as JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import piq  # type: ignore[import-not-found]
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import (  # type: ignore[import-not-found]
    peak_signal_noise_ratio,
    structural_similarity,
)

Y_OF_RGB = (65.481, 128.553, 24.966)
"""Source: ITU-R BT.601, of R, G, B in 0..1; black is 16."""
BLACK = 16
PEAK = 255


def luma(file: str, border_px: int) -> NDArray[np.float64]:
    """Return Y of a picture, 16..235, not rounded, without its border."""
    with Image.open(file) as image:
        rgb = np.asarray(image.convert("RGB"), np.float64) / PEAK
    y: NDArray[np.float64] = rgb @ np.array(Y_OF_RGB) + BLACK
    return y[border_px:-border_px, border_px:-border_px]


def compare(truth: str, made: str, border_px: int) -> dict[str, float]:
    """Return all metrics of one pair."""
    one, other = luma(truth, border_px), luma(made, border_px)
    tensors = [torch.tensor(y / PEAK, dtype=torch.float32)[None, None] for y in (other, one)]
    ssim = structural_similarity(
        one,
        other,
        data_range=PEAK,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return {
        "psnr": float(peak_signal_noise_ratio(one, other, data_range=PEAK)),
        "ssim": float(ssim),
        "gmsd": float(piq.gmsd(*tensors, data_range=1.0)),
    }


def main() -> None:
    """Compare all pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    pairs = json.loads(parser.parse_args().pairs.read_text(encoding="utf-8"))
    print(json.dumps([compare(*pair) for pair in pairs]))


if __name__ == "__main__":
    main()
