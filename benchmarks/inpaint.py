"""Object removal: `inpaint` against OpenCV's Telea and Navier-Stokes, on holes with a known truth.

    python benchmarks/inpaint.py --data ../shared/data/eval --pictures /tmp/inpaint

Two holes are cut into each photo of Kodak24: a rectangle and a stroke. SSIM (1 is best) and GMSD
(0 is best) are those of the pixels inside the hole, on luma; means over all holes. With
`--pictures`, every result is written beside its input, and so are those of `inpaint/`, pictures
with masks of things that one wants gone, for which there is no truth.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import measure
from calotype.domain.image import LUMA
from calotype.local import Calotype

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels, Pixels], Pixels]
EDGE_PX = 8
"""Holes stay this far from the picture's edge."""
NEAR_PX = 16
"""What is compared reaches this far around the hole."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"))
    parser.add_argument("--pictures", type=Path, help="folder for what was made")
    parser.add_argument("--network", type=Path, help="what training/inpaint kept, to compare with")
    asked = parser.parse_args()
    with Calotype() as calotype:
        fills: dict[str, Fill] = {
            "Calotype": lambda pixels, mask: _ours(calotype, pixels, mask),
            "OpenCV Telea": lambda pixels, mask: _opencv(pixels, mask, cv2.INPAINT_TELEA),
            "OpenCV Navier-Stokes": lambda pixels, mask: _opencv(pixels, mask, cv2.INPAINT_NS),
        }
        if asked.network:
            from training.inpaint.fill import load  # needs PyTorch

            fills["a network"] = load(asked.network)
        rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in fills}
        for case, truth, mask in holes(asked.data / "Kodak24"):
            made = {}
            for name, fill in fills.items():
                started_s = time.perf_counter()
                made[name] = fill(truth, mask)
                seconds = time.perf_counter() - started_s
                rows[name].append((*scores(truth, made[name], mask), seconds))
            if asked.pictures:
                _show(asked.pictures / f"{case}.png", truth, mask, made)
        if asked.pictures:
            _show_pairs(asked.data / "inpaint", asked.pictures, fills)
    print(f"\n{measure.machine()}\n{len(rows['Calotype'])} holes\n")
    print("| filled by | SSIM | GMSD | seconds |\n|---|---|---|---|")
    for name, values in rows.items():
        ssim, gmsd, seconds = np.mean(values, axis=0)
        print(f"| {name} | {ssim:.4f} | {gmsd:.4f} | {seconds:.2f} |")


def holes(folder: Path) -> Iterator[tuple[str, Pixels, Pixels]]:
    """Yield name, picture and mask (h, w), always the same ones."""
    rng = np.random.default_rng(5)
    for file in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        for kind, cut in (("rectangle", _rectangle), ("stroke", _stroke)):
            mask = cut(pixels.shape[0], pixels.shape[1], rng)
            mask[:EDGE_PX] = mask[-EDGE_PX:] = 0
            mask[:, :EDGE_PX] = mask[:, -EDGE_PX:] = 0
            yield f"{file.stem}-{kind}", pixels, mask


def _rectangle(h: int, w: int, rng: np.random.Generator) -> Pixels:
    mask = np.zeros((h, w), np.uint8)
    height, width = int(rng.integers(40, 110)), int(rng.integers(40, 140))
    top, left = int(rng.integers(20, h - height - 20)), int(rng.integers(20, w - width - 20))
    mask[top : top + height, left : left + width] = 255
    return mask


def _stroke(h: int, w: int, rng: np.random.Generator) -> Pixels:
    mask = np.zeros((h, w), np.uint8)
    y, x = float(rng.uniform(0.25 * h, 0.75 * h)), float(rng.uniform(0.25 * w, 0.75 * w))
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(3, 7))):
        angle += rng.uniform(-1.2, 1.2)
        length = rng.uniform(20, 60)
        to_y, to_x = y + length * np.sin(angle), x + length * np.cos(angle)
        ends = ((int(x), int(y)), (int(to_x), int(to_y)))
        cv2.line(mask, *ends, 255, int(rng.integers(12, 40)))
        y, x = to_y, to_x
    return mask


def scores(truth: Pixels, made: Pixels, mask: Pixels) -> tuple[float, float]:
    """Return SSIM and GMSD inside a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    near = np.s_[
        max(0, rows[0] - NEAR_PX) : rows[-1] + NEAR_PX + 1,
        max(0, columns[0] - NEAR_PX) : columns[-1] + NEAR_PX + 1,
    ]
    one, other = truth[near] @ np.array(LUMA), made[near] @ np.array(LUMA)
    inside = mask[near] > 0
    deviation = _gradient_similarity(one, other)[inside].std()
    return float(_similarity(one, other)[inside].mean()), float(deviation)


def _similarity(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """SSIM at each pixel: Wang et al. (2004), a Gaussian of 1.5 px, range 255."""

    def mean(plane: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5))

    m1, m2 = mean(one), mean(other)
    v1, v2 = mean(one * one) - m1 * m1, mean(other * other) - m2 * m2
    both = mean(one * other) - m1 * m2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    made = (2 * m1 * m2 + c1) * (2 * both + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))
    return np.asarray(made)


def _gradient_similarity(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Similarity of gradients at each pixel: Xue et al. (2014), whose deviation is GMSD."""
    kernel = np.array([[1, 0, -1]] * 3) / 3

    def gradient(plane: NDArray[Any]) -> NDArray[Any]:
        across, down = cv2.filter2D(plane, -1, kernel), cv2.filter2D(plane, -1, kernel.T)
        return np.asarray(np.hypot(across, down))

    g1, g2 = gradient(one), gradient(other)
    return np.asarray((2 * g1 * g2 + 170) / (g1**2 + g2**2 + 170))


def _ours(calotype: Calotype, pixels: Pixels, mask: Pixels) -> Pixels:
    """Fill the mask and nothing around it, as the others do."""
    white = np.repeat(mask[:, :, None], 3, axis=2)
    return calotype.run("inpaint", pixels, mask_image=white, mask_blur=0, format="png").pixels


def _opencv(pixels: Pixels, mask: Pixels, how: int) -> Pixels:
    return np.asarray(cv2.inpaint(pixels, mask, 3, how), np.uint8)


def _show(file: Path, pixels: Pixels, mask: Pixels, made: dict[str, Pixels]) -> None:
    """Write the picture, its hole, and what each made of it, side by side."""
    file.parent.mkdir(parents=True, exist_ok=True)
    marked = np.where(mask[:, :, None] > 0, np.array([255, 0, 255], np.uint8), pixels)
    Image.fromarray(np.concatenate([pixels, marked, *made.values()], axis=1)).save(file)


def _show_pairs(folder: Path, target: Path, fills: dict[str, Fill]) -> None:
    for file in sorted(folder.glob("*_mask.png")):
        picture = file.with_name(file.name.replace("_mask", ""))
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        mask = np.where(np.asarray(Image.open(file).convert("L")) > 127, 255, 0).astype(np.uint8)
        made = {name: fill(pixels, mask) for name, fill in fills.items()}
        _show(target / picture.name, pixels, mask, made)


if __name__ == "__main__":
    main()
