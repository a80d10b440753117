"""The network: lightness in, at half its resolution the odds of each cell of colour out."""

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 16
"""Sides of the input are multiples of this."""


class Conv(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, side: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Block(nn.Module):
    """Two convolutions added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return functional.relu(x + self.norm(self.second(self.first(x))))


class Colorizer(nn.Module):
    """A U-Net over half, quarter, eighth and sixteenth of the resolution.

    The mean over the whole picture is added at the bottom: what the picture is of decides its
    colours. In training that mean also names the picture's class, which teaches it what there is.
    """

    def __init__(
        self,
        cells: int,
        *,
        classes: int = 200,
        channels: tuple[int, int, int, int] = (32, 96, 160, 256),
    ) -> None:
        super().__init__()
        half, quarter, eighth, bottom = channels
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), Conv(4, half), Block(half))
        self.down1 = nn.Sequential(Conv(half, quarter, stride=2), Block(quarter))
        self.down2 = nn.Sequential(Conv(quarter, eighth, stride=2), Block(eighth), Block(eighth))
        self.down3 = nn.Sequential(Conv(eighth, bottom, stride=2), Block(bottom))
        self.whole = nn.Sequential(nn.Linear(bottom, bottom), nn.ReLU(inplace=True))
        self.spread = nn.Linear(bottom, bottom)
        self.classes = nn.Linear(bottom, classes)
        self.mix = Conv(bottom, bottom)
        self.up3 = Conv(bottom, eighth, side=1)
        self.join3 = nn.Sequential(Conv(eighth, eighth), Block(eighth))
        self.up2 = Conv(eighth, quarter, side=1)
        self.join2 = nn.Sequential(Conv(quarter, quarter), Block(quarter))
        self.up1 = Conv(quarter, half, side=1)
        self.join1 = nn.Sequential(Conv(half, half), Conv(half, 64))
        self.cells = nn.Conv2d(64, cells, 1)

    def forward(
        self, lightness: Tensor, every: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the odds of each cell and of each class.

        Args:
            lightness: (n, 1, h, w), L* / 50 - 1; h and w multiples of 16.
            every: Name the cells of every second row and column only, from these on: a quarter of
                the work of the widest layer, and as good a teacher.

        Returns:
            (n, cells, h/2, w/2) logits and (n, classes) logits.
        """
        half = self.stem(lightness)
        quarter = self.down1(half)
        eighth = self.down2(quarter)
        bottom = self.down3(eighth)
        whole = self.whole(bottom.mean((2, 3)))
        bottom = self.mix(bottom + self.spread(whole)[:, :, None, None])
        eighth = self.join3(eighth + _double(self.up3(bottom)))
        quarter = self.join2(quarter + _double(self.up2(eighth)))
        half = self.join1(half + _double(self.up1(quarter)))
        if every is not None:
            half = half[:, :, every[0] :: 2, every[1] :: 2]
        return self.cells(half), self.classes(whole)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def parameters(network: nn.Module) -> int:
    """Return how many numbers the network learns."""
    return sum(p.numel() for p in network.parameters())


def annealed(logits: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Return the mean a* and b* (n, 2, h, w) under odds sharpened by `temperature` (1: as is)."""
    odds = torch.softmax(logits.float() / temperature, 1)
    return torch.einsum("nchw,cd->ndhw", odds, centres)
