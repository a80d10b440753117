"""Whatever repaints, of whatever size and mask: pixels outside the mask are the input's own."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import checkpoints
import pipelines
from calotype.domain.image import Pixels
from calotype.local import Calotype
from models import photo
from unit.codec.test_mask import grown

QUICK: dict[str, Any] = {"num_inference_steps": 2, "strength": 1.0, "prompt": "a wall"}
KINDS: dict[str, dict[str, Any]] = {
    "inpaint": {},
    "acme/inpaint": QUICK,
    "acme/xl-inpaint": QUICK,
    "acme/lama": {},
}
FORMATS = ("png", "webp")


@pytest.fixture(scope="module")
def calotype(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calotype]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("inpaint", "xl-inpaint"):
        pipelines.save(folder, name, pipelines.FAMILIES[name]())
        # These pipelines refuse other sides, even where their networks are as small as these.
        (folder / "acme" / f"{name}.toml").write_text("[options]\nmultiple_px = 8\n")
    checkpoints.save("lama", folder / "acme" / "lama.safetensors")
    with Calotype(
        models_dir=folder, cache_dir=folder / "cache", webp_quality=100, diffusion_engine="torch"
    ) as made:
        yield made


@st.composite
def masked(draw: st.DrawFn) -> tuple[Pixels, NDArray[np.bool_]]:
    """A picture, and what of it is repainted: never nothing, never all."""
    h, w = draw(st.integers(2, 90)), draw(st.integers(2, 90))
    inside = np.zeros((h, w), bool)
    for _ in range(draw(st.integers(1, 3))):
        top, left = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
        inside[top : top + draw(st.integers(1, 30)), left : left + draw(st.integers(1, 30))] = True
    if inside.all():
        inside[0, 0] = False
    return photo(h, w, draw(st.integers(0, 5))), inside


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", KINDS)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=masked(), blur=st.integers(0, 6), format=st.sampled_from(FORMATS))
def test_what_is_not_masked_stays(
    model: str,
    calotype: Calotype,
    case: tuple[Pixels, NDArray[np.bool_]],
    blur: int,
    format: str,
) -> None:
    pixels, inside = case
    mask = np.repeat(np.where(inside, np.uint8(255), np.uint8(0))[:, :, None], 3, axis=2)
    answer = calotype.run(
        model, pixels, format=format, mask_image=mask, mask_blur=blur, **KINDS[model]
    )
    found = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB"))
    outside = ~grown(inside, blur)
    assert np.array_equal(found[outside], pixels[outside])
