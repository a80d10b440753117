"""Filling holes with what surrounds them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calotype.backends import inpaint
from calotype.backends.base import Machine
from calotype.backends.inpaint import WAYS, InpaintBackend, Way, fill, joined, load
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image, Pixels
from calotype.domain.request import Job
from calotype.errors import InvalidParameterError
from models import CATALOG, photo, psnr

SPEC = CATALOG.get("inpaint")


def backend() -> InpaintBackend:
    return load(SPEC, lambda _: b"", Machine())


def job(pixels: Pixels, hole: NDArray[np.bool_], hooks: Hooks | None = None, blur: int = 0) -> Job:
    mask = Image(np.where(hole[:, :, None], np.uint8(255), np.uint8(0)).repeat(3, axis=2))
    return Job(
        model=SPEC,
        image=Image(pixels),
        params={"mask_blur": blur},
        images={"mask_image": mask},
        hooks=hooks or Hooks(),
    )


def square(h: int, w: int, side: int) -> NDArray[np.bool_]:
    hole = np.zeros((h, w), bool)
    hole[h // 2 : h // 2 + side, w // 2 : w // 2 + side] = True
    return hole


def stripes(h: int = 96, w: int = 120) -> Pixels:
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([(x // 6 % 2) * 200, (y // 8 % 2) * 180, np.full((h, w), 90)], 2).astype(
        np.uint8
    )


def test_a_pattern_goes_on() -> None:
    pixels, hole = stripes(), square(96, 120, 20)
    damaged = np.where(hole[:, :, None], np.uint8(0), pixels)
    (answer,) = backend().run([job(damaged, hole)])
    assert psnr(answer.pixels, pixels) > 30
    assert np.array_equal(answer.pixels[~hole], pixels[~hole])


def test_what_was_in_the_hole_does_not_matter() -> None:
    pixels, hole = photo(80, 90), square(80, 90, 25)
    one = np.where(hole[:, :, None], np.uint8(0), pixels)
    other = np.where(hole[:, :, None], np.uint8(255), pixels)
    first, second = backend().run([job(one, hole), job(other, hole)])
    assert np.array_equal(first.pixels, second.pixels)


def test_the_soft_edge_is_filled_too() -> None:
    pixels, hole = np.full((96, 120, 3), 60, np.uint8), square(96, 120, 12)
    halo = np.zeros_like(hole)
    halo[45:63, 57:75] = True
    damaged = np.where(halo[:, :, None], np.uint8(255), pixels)
    (answer,) = backend().run([job(damaged, hole, blur=3)])
    assert np.array_equal(answer.pixels, pixels), "nothing of the halo is left"


def test_a_soft_edge_over_all_the_rest_is_none() -> None:
    pixels, hole = photo(20, 30), square(20, 30, 9)
    soft, hard = (backend().run([job(pixels, hole, blur=blur)])[0] for blur in (30, 0))
    assert np.array_equal(soft.pixels, hard.pixels)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_size_and_any_hole(data: st.DataObject) -> None:
    h, w = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    pixels = np.full((h, w, 3), 200, np.uint8) - photo(h, w) // 4
    hole = np.zeros((h, w), bool)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    hole[top : top + data.draw(st.integers(1, 40)), left : left + data.draw(st.integers(1, 40))] = 1
    if hole.all():
        with pytest.raises(InvalidParameterError, match="mask_image must leave something"):
            backend().run([job(pixels, hole)])
        return
    (answer,) = backend().run([job(pixels, hole)])
    assert np.array_equal(answer.pixels[~hole], pixels[~hole])
    filled, known = answer.pixels[hole], pixels[~hole]
    assert (filled.min(0) >= known.min(0) - 60).all(), "filled from the picture, not with nothing"


def test_a_hole_too_large_for_its_size_is_filled_smaller_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inpaint, "LARGEST_PX", 400)
    pixels, hole, hooks = stripes(), square(96, 120, 40), Hooks()
    (answer,) = backend().run([job(pixels, hole, hooks)])
    assert hooks.notes == ("size; the hole was filled at 60x48, and enlarged to 120x96",)
    assert np.array_equal(answer.pixels[~hole], pixels[~hole])


def test_large_holes_are_filled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint, "SEVERAL_PX", 100)
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    pixels, hole = stripes(), square(96, 120, 20)
    (answer,) = backend().run([job(pixels, hole, hooks)])
    assert seen == [(0, 1), (1, 1)]
    expected = fill(pixels, np.where(hole, np.uint8(255), np.uint8(0)), Way(5))
    assert np.array_equal(answer.pixels, expected)


def test_it_stops_between_two_ways() -> None:
    seen: list[int] = []

    def stop_after_one(done: int, total: int) -> None:
        seen.append(done)
        assert total == len(WAYS)
        if done:
            hooks.cancel()

    hooks = Hooks(stop_after_one)
    with pytest.raises(JobCancelledError):
        InpaintBackend(1).run([job(photo(90, 90), square(90, 90, 20), hooks)])
    assert seen == [0, 1]


def test_the_same_for_any_number_of_threads() -> None:
    pixels, hole = photo(100, 120), square(100, 120, 30)
    answers = [InpaintBackend(n).run([job(pixels, hole)])[0].pixels for n in (1, 2, 5)]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_fillings_that_agree_stay_as_they_are() -> None:
    pixels = stripes()
    hole = np.where(square(96, 120, 20), np.uint8(255), np.uint8(0))
    assert np.array_equal(joined([pixels] * 3, hole), pixels)


def test_fillings_that_differ_meet_in_the_middle() -> None:
    hole = np.where(square(96, 120, 20), np.uint8(255), np.uint8(0))
    dark, light = (np.where(hole[:, :, None] > 0, np.uint8(v), np.uint8(120)) for v in (100, 140))
    made = joined([dark, light], hole)
    assert np.array_equal(made[hole == 0], dark[hole == 0])
    assert (made[55:60, 68:72] == 120).all()
