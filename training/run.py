"""What every training run does around its steps: go on where it was, report, keep."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch


class Stateful(Protocol):
    """A network, an average, an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it is made of."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Become what another one was."""
        ...


class Run:
    """One training run; a subclass says what a step is.

    Args:
        kept: file that the run is kept in, and goes on from.
        device: what it runs on.
        steps: how many there are in all.
        every: steps between two reports.
    """

    batch = 1
    """Pictures of a step, for the pace that is reported."""

    def __init__(self, kept: Path, device: str, steps: int, every: int) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        self.kept, self.device = kept, torch.device(device)
        self.steps, self.every = steps, every
        self.step = 0
        self.parts: dict[str, Stateful] = {}
        self.optimizers: list[torch.optim.Optimizer] = []

    def one(self) -> Mapping[str, float]:
        """Make a step; return its losses by name."""
        raise NotImplementedError

    def report(self, means: Mapping[str, float], pace: float) -> None:
        """Tell of the last steps.

        Args:
            means: of the losses, over the steps of a report.
            pace: pictures a second.
        """
        raise NotImplementedError

    def extra(self) -> dict[str, Any]:
        """Return what is kept beside the parts and the optimizers."""
        return {}

    def resume(self) -> None:
        """Go on from what was kept, if anything was."""
        if not self.kept.exists():
            return
        state = torch.load(self.kept, weights_only=True, map_location=self.device)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = state["step"]
        print(f"resumed at step {self.step}", flush=True)

    def keep(self) -> None:
        """Write everything that resuming needs, whole or not at all."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        part = self.kept.with_suffix(".part")
        torch.save({**state, **self.extra(), "step": self.step}, part)
        part.replace(self.kept)

    def finish(self) -> None:
        """Make all steps that are left."""
        sums: dict[str, float] = {}
        start, first = time.monotonic(), self.step
        while self.step < self.steps:
            for name, value in self.one().items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            if self.step % self.every == 0 or self.step == self.steps:
                pace = (self.step - first) * self.batch / (time.monotonic() - start)
                self.report({name: value / self.every for name, value in sums.items()}, pace)
                sums = {}
                self.keep()
