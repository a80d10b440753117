"""Read the training photos once into arrays of L*a*b*, kept as .npz files in the work folder.

Thumbs: (n, 3, 64, 64) int8 (L* less 50, a*, b*) and their class. Photos: a list of the same at a
short side of 256 px, without those that are held out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.colorize.colour import lab_of_rgb
from training.photos import THUMBS, large, pictures


@dataclass(frozen=True)
class Photos:
    """What the network learns from, as int8 arrays of L* - 50, a*, b*."""

    thumbs: NDArray[np.int8]
    """(n, 3, 64, 64)."""
    labels: NDArray[np.int64]
    """(n,): the class of each thumb, 0..199."""
    photos: list[NDArray[np.int8]]
    """Each (3, h, w) with a short side of 256 px."""

    def counts(self) -> NDArray[np.int64]:
        """Return how often each whole (a*, b*) occurs in the thumbs: (256, 256)."""
        ab = self.thumbs[::7, 1:].astype(np.int64) + 128
        flat = (ab[:, 0] * 256 + ab[:, 1]).reshape(-1)
        return np.bincount(flat, minlength=65536).reshape(256, 256)


def read(source: Path, work: Path) -> Photos:
    """Return the photos of a folder, from the work folder if they were read before."""
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "photos.npz"
    if not kept.exists():
        _convert(source, kept)
    with np.load(kept) as store:
        flat, sizes = store["photos"], store["sizes"]
        ends = np.cumsum([3 * h * w for h, w in sizes])
        photos = [
            part.reshape(3, h, w)
            for part, (h, w) in zip(np.split(flat, ends[:-1]), sizes, strict=True)
        ]
        return Photos(store["thumbs"], store["labels"], photos)


def _convert(source: Path, kept: Path) -> None:
    thumbs, classes = [], []
    for name, pixels in pictures(source / THUMBS):
        thumbs.append(_lab(pixels))
        classes.append(name.split("/")[0])
    names = sorted(set(classes))
    photos = [_lab(pixels) for pixels in large(source, held_out=False)]
    np.savez(
        kept,
        thumbs=np.stack(thumbs),
        labels=np.array([names.index(name) for name in classes]),
        photos=np.concatenate([photo.reshape(-1) for photo in photos]),
        sizes=np.array([photo.shape[1:] for photo in photos]),
    )


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.int8]:
    rgb = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    lab = lab_of_rgb(rgb)
    lab[0] -= 50
    return lab.round().clamp(-127, 127).to(torch.int8).numpy()
