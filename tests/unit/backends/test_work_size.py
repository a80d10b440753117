"""The size a diffusion pipeline works at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.image import Size

pytest.importorskip("torch", reason="needs the extra diffusers")

from calotype.backends.diffusion.size import work_size

AREAS = (0.25 * 512**2, 1.5 * 512**2)


@pytest.mark.parametrize(
    ("wanted", "worked"),
    [
        ((512, 512), (512, 512)),
        ((256, 256), (256, 256)),
        ((333, 517), (320, 512)),
        ((768, 512), (768, 512)),
        ((64, 64), (256, 256)),
        ((3000, 4000), (512, 704)),
    ],
)
def test_near_the_wanted_size(wanted: tuple[int, int], worked: tuple[int, int]) -> None:
    size = work_size(Size(height_px=wanted[0], width_px=wanted[1]), AREAS, 64)
    assert (size.height_px, size.width_px) == worked


def test_no_side_is_longer_than_the_network_knows() -> None:
    size = work_size(Size(height_px=100, width_px=1000), AREAS, 16, longest_px=768)
    assert (size.height_px, size.width_px) == (80, 768)


@given(
    height=st.integers(1, 16_384),
    width=st.integers(1, 16_384),
    native=st.sampled_from([64, 128, 512, 1024]),
    multiple=st.sampled_from([8, 16, 32, 64]),
)
def test_always_a_size_that_the_network_takes(
    height: int, width: int, native: int, multiple: int
) -> None:
    areas = (0.25 * native**2, 1.5 * native**2)
    size = work_size(Size(height_px=height, width_px=width), areas, multiple)
    assert size.height_px % multiple == size.width_px % multiple == 0
    assert size.height_px >= multiple
    assert size.width_px >= multiple
    # Rounding each side may add half a multiple to it.
    slack = (1 + multiple / (2 * min(size.height_px, size.width_px))) ** 2
    assert size.pixels <= max(areas[1] * slack * 1.3, multiple**2)
    assert (
        work_size(size, areas, multiple) == size or size.pixels < areas[0] or size.pixels > areas[1]
    )
