"""The pictures of the page that the server shows: what each style and each model does, and samples.

They are made by the models themselves from photographs that anyone may use, and from drawings. The
photographs lie in the `data` folder of scikit-image's wheel, whose `_fetchers.py` says whose they
are:

    pip download --no-deps scikit-image==0.26.0
    unzip scikit_image-*.whl 'skimage/data/*'
    .venv/bin/python -m training.page.pictures skimage/data

chelsea.png, a cat: CC0, Stefan van der Walt. coffee.png, a cup: CC0, Rachel Michetti. rocket.jpg:
public domain, SpaceX.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.Image import Resampling

from calotype import Calotype
from training.page import drawings

STATIC = Path("src/calotype/api/static")
BUDGET = 45_000
"""Bytes that all files may take together."""

STYLES, STYLE_PX, STYLE_COLUMNS = 26, 72, 6
"""How many styles, the side of a thumbnail, and how many are in a row, in order of their ids."""

HALF, MODEL = (60, 80), (120, 80)
"""Width and height of what a model is given or makes, and of both; one model below the other."""

_STYLED_PX = 200
"""What a style is applied at: its strokes keep their size, and at 72 pixels would hide the cat."""


class Studio:
    """Runs models on pictures.

    Args:
        calotype: runs them.
        photos: folder that the photographs lie in.
    """

    def __init__(self, calotype: Calotype, photos: Path) -> None:
        self._calotype = calotype
        self.cat = _photo(photos / "chelsea.png")
        self.cup = _photo(photos / "coffee.png")
        self.rocket = _photo(photos / "rocket.jpg")

    def run(self, model: str, picture: Image.Image, **parameters: Any) -> Image.Image:  # noqa: ANN401 - the model's own
        """Return what a model makes of a picture."""
        made = self._calotype.run(model, np.asarray(picture), format="png", **parameters)
        return Image.fromarray(np.ascontiguousarray(made.pixels[..., :3]))

    def styles(self) -> Image.Image:
        """Return the cat in all styles, in rows."""
        cat = _fit(self.cat, (80, 0, 380, 300), (_STYLED_PX, _STYLED_PX))
        rows = -(-STYLES // STYLE_COLUMNS)
        atlas = Image.new("RGB", (STYLE_COLUMNS * STYLE_PX, rows * STYLE_PX))
        for number in range(STYLES):
            row, column = divmod(number, STYLE_COLUMNS)
            styled = self.run("style", cat, style=number)
            small = styled.resize((STYLE_PX, STYLE_PX), Resampling.LANCZOS)
            atlas.paste(small, (column * STYLE_PX, row * STYLE_PX))
        return atlas

    def models(self) -> Image.Image:
        """Return before and after of all models, one below the other."""
        both = [
            self._enlarged("upscale", self.cat.resize((110, 73), Resampling.BOX), (22, 13, 62, 40)),
            self._enlarged("upscale-anime", drawings.fox().resize((48, 32), Resampling.BOX)),
            self._enlarged("upscale-fast", drawings.boat().resize((48, 32), Resampling.BOX)),
            self._styled(),
            self._styled_by_image(),
            self._colorized(),
            self._inpainted(),
            _halves(*drawings.house()),
        ]
        atlas = Image.new("RGB", (MODEL[0], MODEL[1] * len(both)))
        for number, picture in enumerate(both):
            atlas.paste(picture, (0, number * MODEL[1]))
        return atlas

    def _enlarged(
        self, model: str, small: Image.Image, box: tuple[int, int, int, int] | None = None
    ) -> Image.Image:
        """Show the pixels of a picture, and the picture four times larger.

        Args:
            model: enlarges it.
            small: what is enlarged.
            box: what is shown of it.
        """
        left, top, right, bottom = box or (0, 0, *small.size)
        large = self.run(model, small).crop((4 * left, 4 * top, 4 * right, 4 * bottom))
        before = small.crop((left, top, right, bottom)).resize(MODEL, Resampling.NEAREST)
        return _halves(before, large)

    def _styled(self) -> Image.Image:
        cat = _fit(self.cat, (37, 12, 451, 288), (300, 200))
        return _halves(cat, self.run("style", cat, style="starry"))

    def _styled_by_image(self) -> Image.Image:
        """Show the style in a corner of what is painted."""
        cup = _fit(self.cup, (50, 5, 530, 325), (360, 240))
        painting = drawings.painting(256)
        both = _halves(cup, self.run("style-image", cup, style_image=np.asarray(painting)))
        ImageDraw.Draw(both).rectangle((3, 49, 30, 76), fill="#ffffff")
        both.paste(painting.resize((26, 26), Resampling.LANCZOS), (4, 50))
        return both

    def _colorized(self) -> Image.Image:
        gray = _fit(self.cup, (20, 10, 560, 370), (300, 200)).convert("L").convert("RGB")
        return _halves(gray, self.run("colorize", gray))

    def _inpainted(self) -> Image.Image:
        """Show what is marked, and beside it the same place without it."""
        mask = Image.new("L", self.rocket.size)
        ImageDraw.Draw(mask).rectangle((302, 114, 342, 426), fill=255)
        gone = self.run("inpaint", self.rocket, mask_image=np.asarray(mask.convert("RGB")))
        red = Image.new("RGB", mask.size, "#ff2a3c")
        marked = Image.composite(red, self.rocket, mask.point(lambda value: value * 0.55))
        box = (204, 98, 444, 418)
        both = Image.new("RGB", MODEL)
        both.paste(_fit(marked, box, HALF), (0, 0))
        both.paste(_fit(gone, box, HALF), (HALF[0], 0))
        return both


def _photo(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _fit(
    picture: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]
) -> Image.Image:
    return picture.resize(size, Resampling.LANCZOS, box=box)


def _halves(before: Image.Image, after: Image.Image) -> Image.Image:
    """Join the left half of one picture and the right half of another."""
    both = before.resize(MODEL, Resampling.LANCZOS)
    right = (MODEL[0] - HALF[0], 0, *MODEL)
    both.paste(after.resize(MODEL, Resampling.LANCZOS).crop(right), right)
    return both


def _encoded(picture: Image.Image, kind: str, quality: int) -> bytes:
    stream = io.BytesIO()
    options = {"method": 6} if kind == "webp" else {"optimize": True}
    picture.save(stream, kind, quality=quality, **options)
    return stream.getvalue()


def files(studio: Studio) -> dict[str, bytes]:
    """Return all files by name."""
    photo = _fit(studio.cat, (40, 0, 440, 300), (160, 120))
    gray = _fit(studio.cup, (0, 0, 600, 400), (201, 134)).convert("L")
    return {
        "styles.webp": _encoded(studio.styles(), "webp", 28),
        "models.webp": _encoded(studio.models(), "webp", 58),
        "sample-photo.webp": _encoded(photo, "webp", 80),
        "sample-gray.jpg": _encoded(gray, "jpeg", 72),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the files, and write them all or none."""
    parser = argparse.ArgumentParser(description="Makes the pictures of the page.")
    parser.add_argument("photos", type=Path, help="the folder skimage/data of scikit-image's wheel")
    parser.add_argument("--out", type=Path, default=STATIC, help="folder that they are written to")
    chosen = parser.parse_args(arguments)
    with Calotype(threads=1) as calotype:
        made = files(Studio(calotype, chosen.photos))
    total = sum(map(len, made.values()))
    assert total <= BUDGET, f"{total} bytes, and {BUDGET} are allowed"
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, body in made.items():
        (chosen.out / name).write_bytes(body)
        print(f"{name:20}{len(body):8,}")
    print(f"{'':20}{total:8,}")


if __name__ == "__main__":
    main()
