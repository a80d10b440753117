"""Train a network that fills holes. Resumable: run the same line again after an interruption.

    python -m training.inpaint.train --data ../shared/data/train --work /tmp/inpaint

Squares of large photos with random holes. The loss is L1, the same on edges at three sizes (what
the eye sees first), and, in the second half, a critic's opinion (hinge loss).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.inpaint.holes import hole
from training.inpaint.network import Critic, Inpainter
from training.photos import large
from training.run import Run

BATCH, SIDE = 8, 128
CRITIC_FROM = 0.5
"""Share of the steps before the critic has a say."""
WEIGHTS = {"pixels": 6.0, "edges": 4.0, "critic": 0.1}


def main() -> None:
    """Train, report, keep."""
    asked = _arguments()
    torch.manual_seed(asked.seed)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    run = Filling(asked)
    run.resume()
    run.finish()


class Filling(Run):
    """One training run."""

    batch = BATCH

    def __init__(self, asked: argparse.Namespace) -> None:
        kept = asked.work / f"{asked.name}.pt"
        super().__init__(kept, asked.device, asked.steps, asked.report)
        self.asked = asked
        self.photos = list(large(asked.data, held_out=False))
        self.network, self.critic = Inpainter().to(self.device), Critic().to(self.device)
        self.parts = {"network": self.network, "critic": self.critic}
        self.optimizers = [
            torch.optim.AdamW(self.network.parameters(), 4e-4, betas=(0.5, 0.99)),
            torch.optim.AdamW(self.critic.parameters(), 4e-4, betas=(0.5, 0.99)),
        ]

    def report(self, means: Mapping[str, float], pace: float) -> None:
        """Print."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(f"step {self.step}  {text}  {pace:.1f} pictures/s", flush=True)

    def one(self) -> Mapping[str, float]:
        """Make a step."""
        # Seeded by the step, so that a resumed run sees what an uninterrupted one sees.
        chance = np.random.default_rng((self.asked.seed, self.step))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 4e-4 * min(1.0, 4 * (1 - self.step / self.steps))
        truth, holes = self._batch(chance)
        judged = self.step >= CRITIC_FROM * self.steps
        with torch.autocast(self.device.type, torch.bfloat16):
            made = self.network(truth, holes)
        made = made.float()
        parts = {
            "pixels": ((made - truth).abs() * (1 + 4 * holes)).mean(),
            "edges": edges(made, truth),
        }
        if judged:
            parts["critic"] = -self.critic(made, holes).mean()
        self._move(0, torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum())
        if judged:
            real, fake = self.critic(truth, holes), self.critic(made.detach(), holes)
            parts["doubt"] = functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
            self._move(1, parts["doubt"])
        return {name: float(part.detach()) for name, part in parts.items()}

    def _move(self, which: int, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[which].step()

    def _batch(self, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Squares (n, 3, s, s) in -1..1 and their holes (n, 1, s, s)."""
        squares = []
        for number in chance.integers(0, len(self.photos), BATCH):
            photo = self.photos[number]
            top = int(chance.integers(0, photo.shape[0] - SIDE + 1))
            left = int(chance.integers(0, photo.shape[1] - SIDE + 1))
            square = photo[top : top + SIDE, left : left + SIDE]
            squares.append(square[:, ::-1] if chance.random() < 0.5 else square)
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1
        holes = torch.from_numpy(np.stack([hole(SIDE, chance) for _ in range(BATCH)]))[:, None]
        return pixels.to(self.device), holes.to(self.device)


def edges(made: Tensor, truth: Tensor) -> Tensor:
    """Return the mean difference of neighbouring pixels' differences, at three sizes."""
    total = made.new_zeros(())
    for _ in range(3):
        for axis in (2, 3):
            total = total + (made.diff(dim=axis) - truth.diff(dim=axis)).abs().mean()
        made, truth = functional.avg_pool2d(made, 2), functional.avg_pool2d(truth, 2)
    return total / 6


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of photos256.tar")
    parser.add_argument("--work", type=Path, required=True, help="where to keep everything")
    parser.add_argument("--name", default="inpaint", help="name of this run's files")
    parser.add_argument("--steps", type=int, default=40000)
    parser.add_argument("--report", type=int, default=250, help="steps between two reports")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    return parser.parse_args()


if __name__ == "__main__":
    main()
