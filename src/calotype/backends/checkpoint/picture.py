"""Networks of any number of channels as networks of colour pictures."""

from torch import Tensor, cat, nn

from calotype.backends.checkpoint.library import spandrel
from calotype.domain.image import LUMA, RGB

NOISE_MAPS = frozenset({"DRUNet", "FDnCNN"})
"""Architectures, or tags of some, whose call adds a channel to one picture and not to a batch."""
DRAWING = frozenset({"AuraSR", "GFPGAN", "MAT"})
"""Architectures that draw at random whenever they run."""


class PictureNetwork(nn.Module):
    """A network that takes and gives colour pictures.

    Args:
        found: of 1 or 3 channels in and out.
    """

    def __init__(self, found: spandrel.ModelBase) -> None:
        super().__init__()
        self.net = found.model  # the tracer looks for weights in here
        self._found = found
        self.is_masked = isinstance(found, spandrel.MaskedImageModelDescriptor)
        self.draws = found.architecture.id in DRAWING
        self._gray = found.input_channels == 1, found.output_channels == 1
        self._alone = not NOISE_MAPS.isdisjoint((found.architecture.id, *found.tags))

    def forward(self, picture: Tensor, *mask: Tensor) -> Tensor:
        """Run it.

        Args:
            picture: (1, 3, h, w) float, RGB, 0..1, of a size that the network takes.
            mask: for a masked network, (1, 1, h, w) float, 1 is repainted and 0 is not.

        Returns:
            (1, 3, h * s, w * s) float, 0..1.
        """
        gray_in, gray_out = self._gray
        if gray_in and gray_out:  # each channel by itself, so that colour survives
            planes = picture.transpose(0, 1)  # (1, 3, h, w) -> (3, 1, h, w)
            return self._each(planes, *mask).transpose(0, 1)
        if gray_in:
            weights = picture.new_tensor(LUMA).view(1, RGB, 1, 1)
            picture = (picture * weights).sum(dim=1, keepdim=True)
        made: Tensor = self._found(picture, *mask)
        return made.expand(-1, RGB, -1, -1)

    def _each(self, planes: Tensor, *mask: Tensor) -> Tensor:
        """Run gray pictures, together where that is possible: (3, 1, h, w) -> (3, 1, h, w)."""
        if self._alone or mask:
            return cat([self._found(plane[None], *mask) for plane in planes])
        made: Tensor = self._found(planes)
        return made
