"""What teaches the network: odds of the right cells, colours that go with the truth's, class."""

import torch
from torch import Tensor
from torch.nn import functional

from training.colorize.colour import Cells


def cross_entropy(logits: Tensor, truth: Tensor, cells: Cells) -> Tensor:
    """Return the mean weighted surprise at the true colours.

    Args:
        logits: (n, cells, h, w).
        truth: (n, 2, h, w), a* and b*.
        cells: The cells of colour.
    """
    whole = (truth.round().clamp(-128, 127) + 128).long()
    code = whole[:, 0] * 256 + whole[:, 1]
    index = cells.index[code].permute(0, 3, 1, 2)
    share = cells.share[code].permute(0, 3, 1, 2)
    surprise = -torch.log_softmax(logits.float(), 1).gather(1, index) * share
    return (surprise * cells.weight[index]).sum(1).mean()


def correlation(mean: Tensor, truth: Tensor, floor: float = 4.0) -> Tensor:
    """Return 1 less the mean correlation of a* and of b* within each picture.

    Gray pictures have none to speak of: `floor`, a variance, keeps them from mattering.

    Args:
        mean: (n, 2, h, w), predicted a* and b*.
        truth: (n, 2, h, w).
        floor: Variance added to both.
    """
    x = mean - mean.mean((2, 3), keepdim=True)
    y = truth - truth.mean((2, 3), keepdim=True)
    size = ((x * x).mean((2, 3)) + floor) * ((y * y).mean((2, 3)) + floor)
    return 1 - ((x * y).mean((2, 3)) / size.sqrt()).mean()


def distance(mean: Tensor, truth: Tensor) -> Tensor:
    """Return Huber's distance of a* and b*, in units of 25."""
    return functional.smooth_l1_loss(mean / 25, truth / 25, beta=0.5)
