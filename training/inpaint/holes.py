"""Holes to learn from: rectangles and strokes of a brush, seeded."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw


def hole(side: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Return a (side, side) mask, 1 in the hole: a rectangle, or a few strokes."""
    drawing = Image.new("L", (side, side))
    pen = ImageDraw.Draw(drawing)
    if chance.random() < 0.4:
        height, width = chance.integers(side // 8, side // 2, 2)
        top, left = chance.integers(0, side - height), chance.integers(0, side - width)
        pen.rectangle([int(left), int(top), int(left + width), int(top + height)], fill=1)
    else:
        for _ in range(int(chance.integers(1, 4))):
            _stroke(pen, side, chance)
    return np.asarray(drawing, np.float32)


def _stroke(pen: ImageDraw.ImageDraw, side: int, chance: np.random.Generator) -> None:
    x, y = chance.uniform(0, side, 2)
    angle, width = chance.uniform(0, 2 * np.pi), int(chance.integers(side // 20, side // 6))
    points = [(float(x), float(y))]
    for _ in range(int(chance.integers(2, 6))):
        angle += chance.uniform(-1, 1)
        length = chance.uniform(side / 12, side / 4)
        x, y = x + length * np.cos(angle), y + length * np.sin(angle)
        points.append((float(x), float(y)))
    pen.line(points, fill=1, width=width, joint="curve")
