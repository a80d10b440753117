"""Put pictures into shared memory, and find them there again."""

from collections.abc import Iterable, Sequence

from calotype.domain.image import RGB, Image, Plane
from calotype.execution.segment import Segment

Place = tuple[int, int, int, bool]
"""Where a picture lies: first byte, rows, columns, whether an alpha plane follows the pixels."""

ALIGN_BYTES = 64
"""Of the first byte of a picture: a cache line."""


def aligned(position: int) -> int:
    """Return the next place where a picture may begin."""
    return -(-position // ALIGN_BYTES) * ALIGN_BYTES


def lay_out(images: Iterable[Image], start: int = 0) -> tuple[list[Place], int]:
    """Decide where pictures will lie.

    Returns:
        A place for each, and how many bytes that is up to the end of the last.
    """
    places: list[Place] = []
    for image in images:
        start = aligned(start)
        size, opaque = image.size, image.alpha is None
        places.append((start, size.height_px, size.width_px, not opaque))
        start += size.pixels * (RGB if opaque else RGB + 1)
    return places, start


def write(images: Sequence[Image], places: Sequence[Place], segment: Segment) -> None:
    """Copy pictures to their places."""
    for image, (start, h, w, _) in zip(images, places, strict=True):
        segment.array(start, (h, w, RGB))[:] = image.pixels
        if image.alpha is not None:
            segment.array(start + h * w * RGB, (h, w))[:] = image.alpha


def read(place: Place, segment: Segment) -> Image:
    """Return a picture without copying it; the memory lives as long as the picture.

    Args:
        place: where it lies.
        segment: in which memory.

    Raises:
        ValueError: the place is not in the segment.
    """
    start, h, w, has_alpha = place
    pixels = segment.array(start, (h, w, RGB))
    alpha: Plane | None = segment.array(start + h * w * RGB, (h, w)) if has_alpha else None
    return Image(pixels, alpha)
