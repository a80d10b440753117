"""To an exact size, without colour bleeding out of transparent places."""

import pyvips

from calotype.codec.vips import VipsImage, set_up, to_array, to_vips
from calotype.domain.image import Image, Plane, Size
from calotype.domain.request import Stage

_OPAQUE = 255


def resize(image: Image, size: Size) -> Image:
    """Scale an image to an exact size, in any ratio.

    Args:
        image: pixels and, if any, alpha, not premultiplied.
        size: what to make; where it is the image's own, the same object comes back.

    Returns:
        The image at that size; an alpha channel stays one.

    Source:
        Lanczos with three lobes where the picture shrinks; Catmull-Rom bicubic, which libvips
        uses in its place, where it grows.
    """
    if image.size == size:
        return image
    set_up()
    if image.alpha is None:
        return Image(to_array(_scale(to_vips(image.pixels), size)))
    alpha = resize_plane(image.alpha, size)
    if image.alpha.min() == _OPAQUE:
        return Image(to_array(_scale(to_vips(image.pixels), size)), alpha)
    premultiplied = to_vips(image.pixels).bandjoin(to_vips(image.alpha)).premultiply()
    scaled = _scale(premultiplied, size).copy(interpretation="srgb").unpremultiply()
    # Halves are added because a cast to 8 bits cuts; it also clips what Lanczos overshoots.
    return Image(to_array(scaled.extract_band(0, n=3).linear(1, 0.5, uchar=True)), alpha)


def resize_plane(plane: Plane, size: Size) -> Plane:
    """Scale an alpha channel or a mask to an exact size; the same object if it has that size.

    Args:
        plane: (h, w) uint8.
        size: what to make.
    """
    if plane.shape == (size.height_px, size.width_px):
        return plane
    set_up()
    return to_array(_scale(to_vips(plane), size))


def _scale(image: VipsImage, size: Size) -> VipsImage:
    """Shrink along the axes that shrink, then enlarge along those that grow."""
    shrink_x = min(1.0, size.width_px / image.width)
    shrink_y = min(1.0, size.height_px / image.height)
    if shrink_x < 1 or shrink_y < 1:
        image = image.resize(shrink_x, vscale=shrink_y, kernel="lanczos3")
    grow_x, grow_y = size.width_px / image.width, size.height_px / image.height
    if grow_x == grow_y == 1:
        return image
    # libvips' own enlarging lies half a pixel of the result off; these offsets keep centres:
    # output x is read at (x + 0.5) / grow - 0.5.
    return image.affine(
        [grow_x, 0, 0, grow_y],
        interpolate=pyvips.Interpolate.new("bicubic"),
        idx=0.5 - 0.5 / grow_x,
        idy=0.5 - 0.5 / grow_y,
        oarea=[0, 0, size.width_px, size.height_px],
        extend="copy",
        premultiplied=True,
    )


def finished(original: Image, output: Image, stage: Stage) -> Image:
    """Give the network's picture its alpha channel and its exact size.

    Args:
        original: the decoded upload, whose alpha the result gets.
        output: what the network made.
        stage: ``target_size`` is the exact size, if given; else its scale counts, if it has one.
    """
    alpha = output.alpha
    if alpha is None and original.alpha is not None:
        alpha = resize_plane(original.alpha, output.size)
    return resize(Image(output.pixels, alpha), final_size(original, output, stage))


def final_size(original: Image, output: Image, stage: Stage) -> Size:
    """Tell how large the result of a stage is to be; arguments as those of ``finished``."""
    target, scale = stage.values.get("target_size"), stage.scale
    if isinstance(target, Size):
        return target
    return original.size.times(scale) if scale else output.size
