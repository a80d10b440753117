"""Train a network that fills holes. Resumable: run the same line again after an interruption.

    python -m training.inpaint.train --data ../shared/data/train --work /tmp/inpaint

Squares of large photos with random holes. The loss is L1, the same on edges at three sizes (what
the eye sees first), and, in the second half, a critic's opinion (hinge loss).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.inpaint.holes import hole
from training.inpaint.network import Critic, Inpainter
from training.photos import large

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
    run = Run(asked)
    run.resume()
    run.finish()


class Run:
    """One training run."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.device = asked, torch.device(asked.device)
        self.photos = list(large(asked.data, held_out=False))
        self.network, self.critic = Inpainter().to(self.device), Critic().to(self.device)
        self.optimizers = [
            torch.optim.AdamW(self.network.parameters(), 4e-4, betas=(0.5, 0.99)),
            torch.optim.AdamW(self.critic.parameters(), 4e-4, betas=(0.5, 0.99)),
        ]
        self.step = 0
        asked.work.mkdir(parents=True, exist_ok=True)
        self.kept = asked.work / f"{asked.name}.pt"

    def resume(self) -> None:
        """Go on from what was kept, if anything was."""
        if not self.kept.exists():
            return
        state = torch.load(self.kept, weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["network"])
        self.critic.load_state_dict(state["critic"])
        for optimizer, part in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(part)
        self.step = state["step"]
        print(f"resumed at step {self.step}", flush=True)

    def keep(self) -> None:
        """Write everything that resuming needs, whole or not at all."""
        part = self.kept.with_suffix(".part")
        state = {
            "network": self.network.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        torch.save(state, part)
        part.replace(self.kept)

    def finish(self) -> None:
        """Make all steps that are left."""
        sums: dict[str, float] = {}
        start, first = time.monotonic(), self.step
        while self.step < self.asked.steps:
            for name, value in self._one().items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            if self.step % self.asked.report == 0 or self.step == self.asked.steps:
                pace = (self.step - first) * BATCH / (time.monotonic() - start)
                means = "  ".join(f"{n} {v / self.asked.report:.4g}" for n, v in sums.items())
                print(f"step {self.step}  {means}  {pace:.1f} pictures/s", flush=True)
                sums = {}
                self.keep()

    def _one(self) -> dict[str, float]:
        # Seeded by the step, so that a resumed run sees what an uninterrupted one sees.
        chance = np.random.default_rng((self.asked.seed, self.step))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 4e-4 * min(1.0, 4 * (1 - self.step / self.asked.steps))
        truth, holes = self._batch(chance)
        judged = self.step >= CRITIC_FROM * self.asked.steps
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
