"""Muon for the convolutions, AdamW for the rest.

Muon (Jordan et al., 2024) makes each step of a matrix orthogonal: every direction of it learns at
the same pace.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal; a convolution is the matrix (out, in * side**2)."""

    def __init__(self, weights: Iterable[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                towards = weight.grad.lerp(mean, group["momentum"]).flatten(1)
                scale = max(1.0, towards.shape[0] / towards.shape[1]) ** 0.5
                step = orthogonal(towards).view_as(weight)
                weight.add_(step.to(weight.dtype), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return about U V^T of the matrix U S V^T, by Newton and Schulz's iteration in bfloat16."""
    a, b, c = _QUINTIC
    x: Tensor = matrix.bfloat16()
    turned = x.shape[0] > x.shape[1]
    if turned:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.T if turned else x
    return result


def split(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights Muon moves (convolutions inside the network), and all others."""
    inner = {
        id(module.weight)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and name != "cells"
    }
    weights = list(network.parameters())
    return [w for w in weights if id(w) in inner], [w for w in weights if id(w) not in inner]
