"""Enlarge the pictures of a folder with ncnn, cutting tiles as realesrgan-ncnn-vulkan does.

    python folder_ncnn_peer.py --network FILE.param IN OUT

A stand-in for that program, which needs a GPU, as does Upscayl's descendant of it: tiles of 200
pixels, each with up to 10 more on every side that are cut off again, what lies beyond the picture
being its outermost pixels. ncnn has its defaults, with all cores.
"""

import argparse
from pathlib import Path

import ncnn
import numpy as np
from numpy.typing import NDArray
from PIL import Image

TILE, PADDING, SCALE = 200, 10, 4


def main() -> None:
    """Enlarge all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    told = parser.parse_args()
    net = ncnn.Net()
    net.load_param(str(told.network))
    net.load_model(str(told.network.with_suffix(".bin")))
    told.target.mkdir(parents=True)
    for file in sorted(told.source.iterdir()):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        Image.fromarray(enlarge(net, pixels)).save(told.target / file.name)


def enlarge(net: ncnn.Net, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run tile after tile."""
    height, width, _ = pixels.shape
    margin = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded = np.pad(pixels, margin, mode="edge")
    large = np.empty((height * SCALE, width * SCALE, 3), np.uint8)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            h, w = min(TILE, height - top), min(TILE, width - left)
            given = padded[top : top + h + 2 * PADDING, left : left + w + 2 * PADDING]
            cut = slice(PADDING * SCALE, -PADDING * SCALE)
            rows = slice(top * SCALE, (top + h) * SCALE)
            columns = slice(left * SCALE, (left + w) * SCALE)
            large[rows, columns] = run(net, given)[cut, cut]
    return large


def run(net: ncnn.Net, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run one tile."""
    extractor = net.create_extractor()
    given = np.ascontiguousarray(tile.transpose(2, 0, 1), np.float32) / np.float32(255)
    extractor.input("data", ncnn.Mat(given).clone())
    found = np.array(extractor.extract("output")[1])
    large: NDArray[np.uint8] = np.rint(found.clip(0, 1) * 255).astype(np.uint8)
    return large.transpose(1, 2, 0)


if __name__ == "__main__":
    main()
