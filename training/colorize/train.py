"""Train the colorizer. Resumable: run the same line again after an interruption.

    python -m training.colorize.train --data ../shared/data/train --work /tmp/colorize

Thumbs of 64 px first, then thumbs and photos of 128 px in turns. The step size is constant, then
falls to zero over the last 45 % of the steps, so `--steps` may still be changed before those.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.colorize.colour import Cells
from training.colorize.data import Photos, read
from training.colorize.loss import correlation, cross_entropy, distance
from training.colorize.measure import held_out_score
from training.colorize.muon import Muon, split
from training.colorize.network import Colorizer, annealed, parameters
from training.run import Run

BATCH = 64
PHOTO_BATCH = 16
PHOTO_SIDE = 128
STABLE = 0.55
"""Share of the steps before the step size falls."""
PHOTOS_FROM = 0.5
"""Share of the steps before photos take turns with thumbs."""
PHOTOS_EVERY = 3
"""Of the steps after that, one in this many."""
AVERAGE = 0.998
"""Decay of the average of the weights that is kept as the result."""


def main() -> None:
    """Train, report, keep."""
    asked = _arguments()
    torch.manual_seed(asked.seed)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    photos = read(asked.data, asked.work)
    cells = Cells(photos.counts(), least_share=3e-6, uniform=0.5).to(asked.device)
    run = Colouring(photos, cells, asked)
    print(
        f"{len(photos.thumbs)} thumbs, {len(photos.photos)} photos, {len(cells.centres)} cells, "
        f"{parameters(run.network) / 1e6:.2f} M parameters",
        flush=True,
    )
    run.resume()
    run.finish()


class Colouring(Run):
    """One training run: the network, its average, the optimizers and the step it is at."""

    batch = BATCH

    def __init__(self, photos: Photos, cells: Cells, asked: argparse.Namespace) -> None:
        kept = asked.work / f"{asked.name}.pt"
        super().__init__(kept, asked.device, asked.steps, asked.report)
        self.photos, self.cells, self.asked = photos, cells, asked
        self.network = Colorizer(len(cells.centres)).to(self.device)
        for weight in self.network.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        inner, others = split(self.network)
        self.parts = {"network": self.network, "average": self.average}
        self.optimizers = [
            Muon(inner, lr=asked.muon_lr) if asked.muon_lr else torch.optim.AdamW(inner, 2e-3),
            torch.optim.AdamW(others, 2e-3, weight_decay=0.01),
        ]
        self.rates = [group["lr"] for o in self.optimizers for group in o.param_groups]
        self.log = asked.work / f"{asked.name}.csv"

    def extra(self) -> dict[str, Any]:
        """Keep the cells beside the network: their order is that of its outputs."""
        return {"cells": self.cells.centres}

    def one(self) -> Mapping[str, float]:
        """Make a step."""
        # Seeded by the step, so that a resumed run sees what an uninterrupted one sees.
        chance = np.random.default_rng((self.asked.seed, self.step))
        self._set_rate()
        done = self.step / self.steps
        use_photos = done >= PHOTOS_FROM and self.step % PHOTOS_EVERY == 0
        lab, labels = _photos(self.photos, chance) if use_photos else _thumbs(self.photos, chance)
        lightness = _toned(lab[:, :1] / 50, chance).to(self.device)
        truth = functional.avg_pool2d(lab[:, 1:], 2).to(self.device)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            down, across = (int(n) for n in chance.integers(0, 2, 2))
            logits, classes = self.network(
                lightness.contiguous(memory_format=torch.channels_last), every=(down, across)
            )
        truth = truth[:, :, down::2, across::2]
        mean = annealed(logits, self.cells.centres, 1.0)
        parts = {
            "cells": cross_entropy(logits, truth, self.cells),
            "correlation": correlation(mean, truth) * self.asked.correlation,
            "distance": distance(mean, truth) * self.asked.distance,
        }
        if labels is not None:
            parts["classes"] = 0.3 * functional.cross_entropy(
                classes.float(), labels.to(self.device), label_smoothing=0.1
            )
        loss = torch.stack(list(parts.values())).sum()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update_parameters(self.network)
        return {name: float(part.detach()) for name, part in parts.items()}

    def _set_rate(self) -> None:
        done = self.step / self.steps
        share = min(1.0, (self.step + 1) / 100) * min(1.0, (1 - done) / (1 - STABLE))
        groups = [group for o in self.optimizers for group in o.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * share

    def report(self, means: Mapping[str, float], pace: float) -> None:
        """Measure, print, and add a row to the log."""
        self.average.eval()
        score = held_out_score(self.average.module, self.cells.centres, self.asked.data)
        row = {"step": self.step, **means, "held_out": score, "per_second": pace}
        text = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        print(text, flush=True)
        new = not self.log.exists()
        with self.log.open("a", newline="") as file:
            names = [
                "step",
                "cells",
                "correlation",
                "distance",
                "classes",
                "held_out",
                "per_second",
            ]
            writer = csv.DictWriter(file, names, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)


def _thumbs(photos: Photos, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of thumbs, each mirrored or not, all cut to one size and brought to another."""
    chosen = chance.integers(0, len(photos.thumbs), BATCH)
    lab = torch.from_numpy(photos.thumbs[chosen]).float()
    mirrored = torch.from_numpy(chance.random(BATCH) < 0.5)
    lab = torch.where(mirrored[:, None, None, None], lab.flip(3), lab)
    side = int(chance.choice([64, 64, 56, 48]))
    top, left = chance.integers(0, 65 - side, 2)
    lab = lab[:, :, top : top + side, left : left + side]
    if side != 64:
        lab = functional.interpolate(lab, (64, 64), mode="bilinear")
    return lab, torch.from_numpy(photos.labels[chosen])


def _photos(photos: Photos, chance: np.random.Generator) -> tuple[Tensor, None]:
    """A batch of squares out of photos, each of its own size and place, brought to one size."""
    squares = []
    for number in chance.integers(0, len(photos.photos), PHOTO_BATCH):
        photo = photos.photos[number]
        side = int(chance.integers(PHOTO_SIDE, 257))
        top = int(chance.integers(0, photo.shape[1] - side + 1))
        left = int(chance.integers(0, photo.shape[2] - side + 1))
        square = torch.from_numpy(photo[:, top : top + side, left : left + side]).float()
        if chance.random() < 0.5:
            square = square.flip(2)
        squares.append(
            functional.interpolate(square[None], (PHOTO_SIDE, PHOTO_SIDE), mode="area")[0]
        )
    return torch.stack(squares), None


def _toned(lightness: Tensor, chance: np.random.Generator) -> Tensor:
    """Lightness as a faded, a dark or a grainy print has it; the colours stay what they were."""
    count = len(lightness)
    contrast = torch.from_numpy(chance.uniform(0.75, 1.15, count)).float()[:, None, None, None]
    shift = torch.from_numpy(chance.uniform(-0.15, 0.15, count)).float()[:, None, None, None]
    some = torch.from_numpy(chance.random(count) < 0.5)[:, None, None, None]
    toned = torch.where(some, lightness * contrast + shift, lightness)
    grain = torch.from_numpy(chance.uniform(0, 0.05, count)).float()[:, None, None, None]
    noise = torch.from_numpy(chance.standard_normal(lightness.shape, dtype=np.float32))
    return (toned + torch.where(some, grain, 0.0) * noise).clamp(-1, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the two .tar files")
    parser.add_argument("--work", type=Path, required=True, help="where to keep everything")
    parser.add_argument("--name", default="colorize", help="name of this run's files")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--report", type=int, default=250, help="steps between two reports")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="0: AdamW for all")
    parser.add_argument("--correlation", type=float, default=0.5, help="weight of that loss")
    parser.add_argument("--distance", type=float, default=0.5, help="weight of that loss")
    return parser.parse_args()


if __name__ == "__main__":
    main()
