"""How much memory a picture needs, and what fits. Pure: measures nothing, asks nobody."""

import math
from collections import deque
from dataclasses import dataclass, field

from calotype.domain.image import RGB, Size
from calotype.domain.tiling import LARGEST_TILE
from calotype.errors import PayloadTooLargeError

MIB = 1024 * 1024
INPUT_BYTES = RGB
"""For each pixel of the input, in the worker: the shared memory that it came in."""
OUTPUT_BYTES = 2 * RGB
"""For each pixel of the result, in the worker: the result, and its copy in shared memory."""
LOOKED_BACK = 4
"""Runs by which the memory of the next is judged: the first one takes more, which stays."""


@dataclass(slots=True)
class Notes:
    """What was seen of a model while it ran."""

    work_bytes: deque[int] = field(default_factory=lambda: deque(maxlen=LOOKED_BACK))
    """What runs of whole tiles needed beside what the worker holds and the pictures."""
    scale: float = 0.0
    hopeless: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What running a model takes, as measured."""

    resident_bytes: int
    """The worker's, after its load."""
    work_bytes: int
    """What the network needs inside, with a whole tile; 0: not measured yet."""
    shrinks: int
    """How often the tile can be halved."""

    def work(self, shrink: int) -> int:
        """Return what the network needs with its tile halved that often: it goes by the area."""
        return self.work_bytes >> 2 * min(shrink, self.shrinks)


def picture_bytes(pixels: int, scale: float) -> int:
    """Return what pictures take in the worker, beside what the network needs.

    Args:
        pixels: of the input.
        scale: size of the result / size of the input, a side.
    """
    return math.ceil(pixels * (INPUT_BYTES + OUTPUT_BYTES * scale * scale))


def fitting_shrink(size: Size, scale: float, footprint: Footprint, room_bytes: int) -> int:
    """Return how often the tile must be halved for a picture to fit.

    Args:
        size: of the input.
        scale: size of the result / size of the input, a side.
        footprint: of the model.
        room_bytes: for its worker.

    Raises:
        PayloadTooLargeError: it never fits; the message says what would.
    """
    left = room_bytes - footprint.resident_bytes - picture_bytes(size.pixels, scale)
    for shrink in range(footprint.shrinks + 1):
        if footprint.work(shrink) <= left:
            return shrink
    most = largest_pixels(scale, footprint, room_bytes)
    shape = f", such as {_shrunk(size, most)}" if most else ""
    raise PayloadTooLargeError(
        f"the picture is {size}; with {room_bytes // MIB} MiB for this model, at most {most}"
        f" pixels are possible{shape}"
    )


def may_grow(size: Size, scale: float, footprint: Footprint, room_bytes: int) -> bool:
    """Tell whether there is room for a network of the largest tile beside those that there are.

    Args:
        size: of the input.
        scale: size of the result / size of the input, a side.
        footprint: of the model.
        room_bytes: for its worker.
    """
    another = footprint.resident_bytes  # most of what a worker holds is one network
    left = room_bytes - footprint.resident_bytes - another - picture_bytes(size.pixels, scale)
    return footprint.work_bytes * LARGEST_TILE**2 <= left


def largest_pixels(scale: float, footprint: Footprint, room_bytes: int) -> int:
    """Return the pixels of the largest input that fits."""
    room = room_bytes - footprint.resident_bytes - footprint.work(footprint.shrinks)
    most = max(0, int(room / (INPUT_BYTES + OUTPUT_BYTES * scale * scale)))
    while most and picture_bytes(most, scale) > room:
        most -= 1  # what was lost in rounding
    return most


def _shrunk(size: Size, most: int) -> Size:
    """Return a size of about the same shape with at most that many pixels."""
    side = (most / size.pixels) ** 0.5
    height = max(1, int(size.height_px * side))
    width = max(1, min(int(size.width_px * side), most // height))
    return Size(height_px=min(height, most), width_px=width)
