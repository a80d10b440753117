"""The drawings of the page, made of flat shapes, so that nobody's picture is needed for them."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 120, 80
"""What the coordinates below are in."""

_FINE = 16
_LINE = "#33253a"

Shape = tuple[str, str, tuple[float, ...]]
"""Kind, colour, and corners, or for a circle its middle and radii.

A kind is area, line or circle; one that begins with an = is drawn a second time, mirrored.
"""

_FOX: Sequence[Shape] = (
    ("area", "#6cc5c1", (0, 0, 120, 0, 120, 80, 0, 80)),
    ("=circle", "#8ad6cf", (14, 16, 9, 9)),
    ("area", "#e8833a", (40, 80, 44, 64, 76, 64, 80, 80)),
    ("=area", "#e8833a", (28, 3, 56, 22, 30, 44)),
    ("=area", "#fbd9c0", (32, 12, 49, 24, 34, 36)),
    ("circle", "#e8833a", (60, 45, 35, 28)),
    ("=area", "#e8833a", (16, 62, 27, 40, 45, 66)),
    ("=area", "#fff4e6", (20, 60, 30, 50, 44, 49, 54, 56, 60, 60, 60, 73, 50, 72, 36, 67)),
    ("=line", _LINE, (31, 25, 28, 3, 46, 15)),
    ("line", _LINE, (46, 15, 60, 18, 74, 15)),
    ("=line", _LINE, (31, 25, 26, 40, 16, 62, 34, 67, 48, 73, 60, 74)),
    ("=circle", _LINE, (43, 45, 8, 10)),
    ("=circle", "#3f9a5b", (43, 46, 6, 7.5)),
    ("=circle", _LINE, (43, 46, 3, 5)),
    ("circle", "#ffffff", (40.5, 41.5, 2.4, 2.8)),
    ("circle", "#ffffff", (74.5, 41.5, 2.4, 2.8)),
    ("=circle", "#f6a08c", (34, 59, 5, 2.6)),
    ("circle", _LINE, (60, 60, 4.4, 3)),
    ("line", _LINE, (50, 65, 55, 68, 60, 65, 65, 68, 70, 65)),
    ("=line", _LINE, (36, 33, 43, 31, 49, 33)),
)

_BOAT: Sequence[Shape] = (
    ("area", "#ffd9a0", (0, 0, 120, 0, 120, 80, 0, 80)),
    ("area", "#ffbf80", (0, 20, 120, 20, 120, 80, 0, 80)),
    ("circle", "#fff1c9", (90, 26, 15, 15)),
    ("area", "#b77a9d", (0, 52, 0, 38, 14, 28, 26, 36, 38, 24, 54, 44, 66, 52)),
    ("area", "#8d6396", (66, 52, 86, 38, 98, 44, 112, 34, 120, 40, 120, 52)),
    ("area", "#2f7f9f", (0, 50, 120, 50, 120, 80, 0, 80)),
    ("area", "#f8e3b0", (80, 54, 104, 54, 99, 56, 85, 56)),
    ("area", "#f8e3b0", (84, 60, 100, 60, 97, 62, 88, 62)),
    ("area", "#ffffff", (57, 6, 57, 55, 26, 55)),
    ("area", "#dfe8ef", (57, 6, 57, 55, 46, 55)),
    ("line", _LINE, (57, 6, 57, 55, 26, 55, 57, 6)),
    ("area", "#e4574c", (64, 12, 64, 55, 92, 55)),
    ("area", "#c43f41", (64, 34, 64, 55, 92, 55)),
    ("line", _LINE, (64, 12, 64, 55, 92, 55, 64, 12)),
    ("line", _LINE, (60.5, 3, 60.5, 60)),
    ("area", "#7a4632", (22, 59, 98, 59, 88, 71, 32, 71)),
    ("area", "#f4e9da", (22, 59, 98, 59, 95.5, 62.5, 24.5, 62.5)),
    ("line", _LINE, (22, 59, 98, 59, 88, 71, 32, 71, 22, 59)),
    ("line", "#8cc7d6", (6, 73, 12, 70.5, 18, 73, 24, 70.5)),
    ("line", "#8cc7d6", (44, 76.5, 50, 74, 56, 76.5, 62, 74, 68, 76.5)),
    ("line", "#8cc7d6", (94, 74, 100, 71.5, 106, 74, 112, 71.5)),
)

_HOUSE: Sequence[Shape] = (
    ("area", "sky", (0, 0, 120, 0, 120, 80, 0, 80)),
    ("area", "low", (0, 34, 120, 34, 120, 80, 0, 80)),
    ("circle", "light", (22, 18, 9, 9)),
    ("circle", "light", (98, 18, 9, 9)),
    ("circle", "shade", (94, 15, 8, 8)),
    ("circle", "cloud", (38, 26, 8, 4)),
    ("circle", "cloud", (45, 23, 7, 5)),
    ("circle", "star", (70, 10, 0.9, 0.9)),
    ("circle", "star", (90, 32, 0.9, 0.9)),
    ("circle", "star", (112, 33, 0.9, 0.9)),
    ("circle", "star", (84, 7, 0.7, 0.7)),
    ("circle", "star", (113, 8, 0.7, 0.7)),
    ("circle", "hill", (18, 84, 56, 36)),
    ("circle", "hill", (102, 84, 56, 36)),
    ("circle", "grass", (60, 92, 90, 28)),
    ("=area", "trunk", (15, 56, 19, 56, 19, 70, 15, 70)),
    ("=area", "tree", (17, 30, 27, 50, 7, 50)),
    ("=area", "tree", (17, 38, 29, 60, 5, 60)),
    ("area", "trunk", (76, 22, 82, 22, 82, 38, 76, 38)),
    ("area", "wall", (36, 42, 84, 42, 84, 70, 36, 70)),
    ("area", "roof", (60, 18, 91, 44, 29, 44)),
    ("=area", "pane", (41, 50, 51, 50, 51, 60, 41, 60)),
    ("=line", "roof", (46, 50, 46, 60)),
    ("=line", "roof", (41, 55, 51, 55)),
    ("area", "door", (55, 52, 65, 52, 65, 70, 55, 70)),
)

_DAY = {
    "sky": "#7cc4f2", "low": "#a9daf6", "light": "#ffe071", "shade": "#7cc4f2",
    "cloud": "#ffffff", "star": "#7cc4f2", "hill": "#8ccf76", "grass": "#63b35a",
    "trunk": "#8a5a3c", "tree": "#3f8f55", "wall": "#fff1d8", "roof": "#d8584a",
    "pane": "#9cd3ee", "door": "#9a6240",
}  # fmt: skip
_NIGHT = {
    "sky": "#141b45", "low": "#26306a", "light": "#fdf3c4", "shade": "#141b45",
    "cloud": "#34407c", "star": "#ffffff", "hill": "#27475c", "grass": "#1d3a49",
    "trunk": "#2b2233", "tree": "#15303f", "wall": "#5d5a86", "roof": "#54305a",
    "pane": "#ffd65c", "door": "#33253f",
}  # fmt: skip
_PAINTS = ("#12306b", "#1f6fb2", "#f2b632", "#f7e3a1", "#e4572e", "#2a9d8f", "#f4f1e8")


def _draw(shapes: Sequence[Shape], colours: Mapping[str, str] | None = None) -> Image.Image:
    picture = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE))
    pen = ImageDraw.Draw(picture)
    for kind, colour, numbers in shapes:
        fill = colours[colour] if colours else colour
        _shape(pen, kind.lstrip("="), fill, numbers)
        if kind.startswith("="):
            mirrored = (WIDTH - numbers[0], *numbers[1:])
            if not kind.endswith("circle"):
                mirrored = tuple(n if i % 2 else WIDTH - n for i, n in enumerate(numbers))
            _shape(pen, kind.lstrip("="), fill, mirrored)
    return picture


def _shape(pen: ImageDraw.ImageDraw, kind: str, fill: str, numbers: tuple[float, ...]) -> None:
    fine = [number * _FINE for number in numbers]
    if kind == "circle":
        x, y, across, down = fine
        pen.ellipse((x - across, y - down, x + across, y + down), fill=fill)
    elif kind == "area":
        pen.polygon(fine, fill=fill)
    else:
        wide = 1.6 * _FINE
        pen.line(fine, fill=fill, width=round(wide), joint="curve")
        for x, y in zip(fine[::2], fine[1::2], strict=True):
            pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=fill)


def fox() -> Image.Image:
    """Draw a fox that looks out of the picture."""
    return _draw(_FOX)


def boat() -> Image.Image:
    """Draw a boat at sea."""
    return _draw(_BOAT)


def house() -> tuple[Image.Image, Image.Image]:
    """Draw a house by day and by night."""
    return _draw(_HOUSE, _DAY), _draw(_HOUSE, _NIGHT)


def painting(side: int) -> Image.Image:
    """Paint a square of broad, curved strokes: a painting whose style can be taken."""
    random = np.random.default_rng(4)
    picture = Image.new("RGB", (side * 2, side * 2), "#1c3a6b")
    pen = ImageDraw.Draw(picture)
    for _ in range(420):
        x, y = random.uniform(-0.2, 2.2, 2) * side
        radius = random.uniform(0.3, 1.0) * side
        start, stretch = random.uniform(0, 360), random.uniform(15, 45)
        colour = _PAINTS[int(random.integers(len(_PAINTS)))]
        width = round(random.uniform(0.06, 0.13) * side)
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.arc(box, start, start + stretch, fill=colour, width=width)
    return picture.resize((side, side), Image.Resampling.LANCZOS)
