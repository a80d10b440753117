import io

import numpy as np
import pytest
from PIL import Image

from calotype.domain.image import Size
from calotype.domain.png import PngWriter


@pytest.mark.parametrize("effort", [0, 6])
@pytest.mark.parametrize("step", [1, 3, 40])
def test_rows_in_parts_are_one_file(effort: int, step: int) -> None:
    pixels = np.random.default_rng(step).integers(0, 256, (10, 7, 3), dtype=np.uint8)
    png = PngWriter(Size(height_px=10, width_px=7), effort)
    parts = [png.rows(pixels[start : start + step]) for start in range(0, 10, step)]
    with Image.open(io.BytesIO(b"".join((png.head(), *parts, png.end())))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels)
