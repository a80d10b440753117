"""Measure the colorizer as Calotype runs it: whole pictures at full size, in and out as pixels.

    python -m training.colorize.evaluate --data ../shared/data --weights src/calotype/weights

Prints, for Kodak24 and for the held-out photos, all made gray: mean chroma correlation with the
truth, mean colourfulness as a share of the truth's, and the largest difference of L* to the gray
picture. With ``--rival`` a gray-to-RGB ONNX network is measured too.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from PIL import Image

from calotype.backends.base import Machine
from calotype.backends.colorize import load
from calotype.catalog.catalog import build_catalog
from calotype.domain.image import Image as Picture
from calotype.domain.request import Job
from training.colorize.measure import chroma_correlation, colourfulness, lightness_difference
from training.photos import large

Pixels = NDArray[np.uint8]
Colorize = Callable[[Pixels], Pixels]


def ours(folder: Path, changes: Mapping[str, float]) -> Colorize:
    """Return the colorizer of exported weights, with the catalog's options but for some."""
    spec = build_catalog().get("colorize")
    spec = replace(spec, revision="", options={**spec.options, **changes})
    backend = load(spec, lambda role: (folder / f"colorize.{role}").read_bytes(), Machine())

    def run(gray: Pixels) -> Pixels:
        (answer,) = backend.run([Job(model=spec, image=Picture(gray), params={})])
        return answer.pixels

    return run


def rival(file: Path) -> Colorize:
    """Return a network of gray (n, 1, h, w) 0..1 to RGB."""
    network = ov.Core().compile_model(file, "CPU")

    def run(gray: Pixels) -> Pixels:
        h, w = gray.shape[:2]
        plane = np.pad(gray[:, :, 0], [(0, -h % 8), (0, -w % 8)], mode="edge") / np.float32(255)
        rgb = next(iter(network([plane[None, None].astype(np.float32)]).values()))[0]
        return np.asarray(np.rint(np.clip(rgb, 0, 1) * 255), np.uint8).transpose(1, 2, 0)[:h, :w]

    return run


def photos(data: Path) -> Iterator[tuple[str, list[Pixels]]]:
    """Yield the two sets."""
    kodak = sorted((data / "eval" / "Kodak24").glob("*.png"))
    yield "Kodak24", [np.asarray(Image.open(file).convert("RGB")) for file in kodak]
    yield "held out", list(large(data / "train", held_out=True))


def measure(colorize: Colorize, pictures: list[Pixels]) -> tuple[float, float, float]:
    """Return mean correlation, share of colourfulness, largest difference of L*."""
    correlations, made, true, differences = [], [], [], []
    for truth in pictures:
        gray = np.asarray(Image.fromarray(truth).convert("L").convert("RGB"))
        result = colorize(gray)
        correlations.append(chroma_correlation(result, truth))
        made.append(colourfulness(result))
        true.append(colourfulness(truth))
        differences.append(lightness_difference(result, gray))
    return float(np.mean(correlations)), float(np.mean(made) / np.mean(true)), max(differences)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, required=True, help="folder of the exported network"
    )
    parser.add_argument("--rival", type=Path, help="an ONNX network to measure beside it")
    parser.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    asked = parser.parse_args()
    changes = {name: float(value) for name, value in asked.option}
    networks = {"calotype": ours(asked.weights, changes)}
    if asked.rival:
        networks[asked.rival.stem] = rival(asked.rival)
    print(f"{'pictures':<10} {'network':<28} correlation colourfulness  |dL*|")
    for name, pictures in photos(asked.data):
        for network, colorize in networks.items():
            correlation, colour, difference = measure(colorize, pictures)
            print(f"{name:<10} {network:<28} {correlation:11.3f} {colour:13.2f} {difference:6.2f}")


if __name__ == "__main__":
    main()
