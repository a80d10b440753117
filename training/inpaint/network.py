"""The network: a picture with a hole in, the whole picture out.

Gated convolutions (Yu et al., 2019): each feature is weighed by a gate that learns what is known.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
"""Sides of the input are multiples of this."""


class Gated(nn.Module):
    """A convolution whose result is weighed by a second one."""

    def __init__(
        self, inputs: int, outputs: int, *, side: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        reach = dilation * (side // 2)
        self.conv = nn.Conv2d(
            inputs, 2 * outputs, side, stride, reach, dilation, padding_mode="reflect"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride)."""
        feature, gate = self.conv(x).chunk(2, 1)
        return functional.elu(feature) * torch.sigmoid(gate)


class Inpainter(nn.Module):
    """An encoder, dilated convolutions that reach across the hole, a decoder."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.outer = Gated(4, width, side=5)
        self.down = nn.Sequential(Gated(width, 2 * width, stride=2), Gated(2 * width, 2 * width))
        deep = 4 * width
        self.deep = nn.Sequential(
            Gated(2 * width, deep, stride=2),
            *(Gated(deep, deep, dilation=d) for d in (1, 2, 4, 8, 1)),
        )
        self.up = Gated(deep, 2 * width)
        self.join = Gated(2 * width, width)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, picture: Tensor, hole: Tensor) -> Tensor:
        """Return the filled picture; outside of the hole it is the input.

        Args:
            picture: (n, 3, h, w) in -1..1; what is in the hole doesn't matter.
            hole: (n, 1, h, w), 1 where there is nothing.
        """
        known = picture * (1 - hole)
        outer = self.outer(torch.cat([known, hole], 1))
        half = self.down(outer)
        half = half + self.up(_double(self.deep(half)))
        made = torch.tanh(self.last(outer + self.join(_double(half))))
        return known + made * hole


class Critic(nn.Module):
    """Tells patches of real pictures from made ones: (n, 1, h/16, w/16)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 4
        for outputs in (width, 2 * width, 4 * width, 4 * width):
            conv = nn.Conv2d(inputs, outputs, 5, 2, 2)
            layers += [nn.utils.parametrizations.spectral_norm(conv), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, padding=1))

    def forward(self, picture: Tensor, hole: Tensor) -> Tensor:
        """Return high numbers for what looks real."""
        made: Tensor = self.layers(torch.cat([picture, hole], 1))
        return made


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
