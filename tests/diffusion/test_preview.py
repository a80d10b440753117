"""Previews: what they show, how often, to whom, and that the result is the same without them."""

import inspect
import io
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

import pipelines
from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import DiffusersBackend, load
from calotype.backends.diffusion import preview as previews
from calotype.backends.diffusion.palette import Palette, cell_means, chart
from calotype.backends.diffusion.preview import (
    CALLBACK,
    EVERY_S,
    LATENTS,
    LONGEST_PX,
    TENSORS,
    Previews,
    as_png,
)
from calotype.domain.event import Event, Preview
from calotype.domain.hooks import Hooks
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from diffusion.conftest import Family
from models import job, photo
from workers import Clock

SHOWN = ("pix2pix", "img2img", "inpaint", "xl-img2img", "xl-inpaint", "lcm", "sd3")
NOT_SHOWN = ("xl-pix2pix", "upscale", "latent-upscale", "kontext", "fill")
"""Without that callback, or with packed codes."""
CELL_PX = 4
CALL = {CALLBACK: None, TENSORS: [LATENTS]}
Exact = Callable[[str], DiffusersBackend]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every step."""
    monkeypatch.setattr(previews, "EVERY_S", 0.0)


class Watcher:
    """Keeps the previews that it is told of."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.hooks = Hooks(on_event=self._hear)

    @property
    def pictures(self) -> list[Pixels]:
        return [np.array(PIL.Image.open(io.BytesIO(body))) for body in self.seen]

    def _hear(self, event: Event) -> None:
        if isinstance(event, Preview):
            self.seen.append(event.body)


class LinearVae:
    """Its code is a linear map of the mean colours of its cells.

    Args:
        channels: of the code.
        config: says how pipelines scale it.
    """

    dtype = torch.float32

    def __init__(self, channels: int = 4, **config: Any) -> None:
        rng = np.random.default_rng(5)
        self.config = config
        self._weights = rng.normal(0, 1, (3, channels))
        self.calls = 0

    def encode(self, batch: torch.Tensor) -> Any:
        self.calls += 1
        pixels = batch[0].permute(1, 2, 0).numpy()
        h, w = (side // CELL_PX for side in pixels.shape[:2])
        means = pixels.reshape(h, CELL_PX, w, CELL_PX, 3).mean(axis=(1, 3))
        code = torch.from_numpy((means @ self._weights + 0.3).astype(np.float32))
        return SimpleNamespace(latents=code.permute(2, 0, 1)[None])


class Pipe:
    """A pipeline, as far as previews are concerned."""

    _callback_tensor_inputs = (LATENTS,)
    vae_scale_factor = CELL_PX

    def __init__(self, vae: Any) -> None:
        self.vae = vae


class Scheduler:
    """Always expects the same.

    Args:
        expected: that.
    """

    def __init__(self, expected: torch.Tensor) -> None:
        self._expected = expected

    def step(self, code: torch.Tensor, *, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
        return code + eta, self._expected


def waiting(hooks: Hooks) -> Job:
    return job(ModelSpec(id="t/t", backend="fake", revision="1"), photo(8, 8), hooks=hooks)


def latents_of(vae: LinearVae, *pictures: Pixels) -> torch.Tensor:
    """Return what a pipeline that has just these pictures would hold."""
    config: dict[str, Any] = vae.config
    codes = []
    for pixels in pictures:
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        code = vae.encode(batch).latents
        factor = config.get("scaling_factor", 1.0)
        if "latents_mean" in config:
            mean, std = (
                torch.tensor(config[name]).reshape(1, -1, 1, 1)
                for name in ("latents_mean", "latents_std")
            )
            codes.append((code - mean) * factor / std)
        else:
            codes.append((code - config.get("shift_factor", 0.0)) * factor)
    return torch.cat(codes)


def see(shown: Previews, latents: torch.Tensor, *watchers: Watcher) -> None:
    """Make one step of a call."""
    with shown.shown([waiting(watcher.hooks) for watcher in watchers]) as extra:
        assert extra[TENSORS] == [LATENTS]
        assert extra[CALLBACK](None, 0, 0, {LATENTS: latents}) == {}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"scaling_factor": 0.18215, "shift_factor": None, "latents_mean": None},
        {"scaling_factor": 1.5, "shift_factor": 0.06},
        {"scaling_factor": 0.6, "latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1, 2, 3, 4]},
    ],
    ids=["unscaled", "sd", "flow", "xl"],
)
def test_of_a_linear_code_the_colours_are_those_of_the_picture(config: dict[str, Any]) -> None:
    given = {name: value for name, value in config.items() if value is not None}
    vae, watcher, pixels = LinearVae(**config), Watcher(), photo(40, 64, 3)
    latents = latents_of(LinearVae(**given), pixels)
    kept = latents.clone()
    see(Previews(Pipe(vae), CALL), latents, watcher)
    (found,) = watcher.pictures
    assert found.shape == (10, 16, 3)
    assert np.abs(found - cell_means(pixels, 10, 16)).max() <= 0.51, "they are rounded"
    assert torch.equal(latents, kept)


def test_each_of_a_batch_is_shown_its_own_unless_nobody_waits() -> None:
    vae = LinearVae()
    first, gone, last = Watcher(), Watcher(), Watcher()
    gone.hooks.cancel()
    pictures = [photo(32, 32, seed) for seed in range(3)]
    see(Previews(Pipe(vae), CALL), latents_of(vae, *pictures), first, gone, last)
    assert gone.seen == []
    for watcher, pixels in ((first, pictures[0]), (last, pictures[2])):
        (found,) = watcher.pictures
        assert np.abs(found - cell_means(pixels, 8, 8)).max() <= 0.51


def test_there_is_one_a_second_at_most_and_one_fit_at_all() -> None:
    clock, vae, watcher = Clock(), LinearVae(), Watcher()
    latents = latents_of(vae, photo(32, 32))
    vae.calls = 0
    shown = Previews(Pipe(vae), CALL, clock)
    told = []
    for _ in range(2):  # each call begins anew
        with shown.shown([waiting(watcher.hooks)]) as extra:
            for number in range(9):
                extra[CALLBACK](None, number, 0, {LATENTS: latents})
                told.append(len(watcher.seen))
                clock.now_s += 0.4 * EVERY_S
    assert told == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
    assert vae.calls == 1


def test_large_codes_are_shown_small() -> None:
    palette = Palette(np.eye(4, 3))
    code = np.full((3, 200, 300), 77, np.float32)
    picture = PIL.Image.open(io.BytesIO(as_png(palette.drawn(code))))
    assert picture.size == (LONGEST_PX, round(LONGEST_PX * 2 / 3))
    assert picture.getextrema() == ((77, 77),) * 3


class FailingVae(LinearVae):
    def encode(self, batch: torch.Tensor) -> Any:
        raise RuntimeError("an encoder of the future")


class FilmVae(LinearVae):
    def encode(self, batch: torch.Tensor) -> Any:
        return SimpleNamespace(latents=super().encode(batch).latents[:, :, None])


class BrokenVae(LinearVae):
    def encode(self, batch: torch.Tensor) -> Any:
        return SimpleNamespace(latents=super().encode(batch).latents * float("nan"))


@pytest.mark.parametrize(
    "vae",
    [FailingVae(), FilmVae(), BrokenVae(), LinearVae(channels=300), object(), None],
    ids=["fails", "film", "nan", "too-many-channels", "decoder-only", "none"],
)
def test_an_encoder_that_teaches_nothing_is_asked_once_and_silently(
    vae: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Previews(Pipe(vae), CALL)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            with shown.shown([waiting(Hooks())]) as extra:
                assert extra == {}
    assert caplog.records == []
    if isinstance(vae, LinearVae):
        assert vae.calls <= 1


def test_a_pipeline_that_shows_no_steps_is_not_asked_to() -> None:
    vae = LinearVae()
    with Previews(Pipe(vae), {"callback": None}).shown([waiting(Hooks())]) as extra:
        assert extra == {}
    assert vae.calls == 0


@pytest.mark.parametrize(
    "latents",
    [
        torch.zeros(1, 64, 16),
        torch.zeros(2, 4, 8, 8),
        torch.zeros(1, 3, 8, 8),
        torch.full((1, 4, 8, 8), float("nan")),
        None,
    ],
    ids=["packed", "another-number", "other-channels", "nan", "nothing"],
)
def test_what_cannot_be_shown_is_not(
    latents: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    with caplog.at_level(logging.INFO):
        see(Previews(Pipe(LinearVae()), CALL), latents, watcher)
    assert (watcher.seen, caplog.records) == ([], [])


def test_a_listener_that_fails_stops_nothing() -> None:
    def fail(_: Event) -> None:
        raise OSError("gone")

    vae, failing, watcher = LinearVae(), Watcher(), Watcher()
    failing.hooks = Hooks(on_event=fail)
    latents = latents_of(vae, photo(32, 32), photo(32, 32, 1))
    see(Previews(Pipe(vae), CALL), latents, failing, watcher)
    assert len(watcher.seen) == 1


def test_an_encoder_that_is_not_converted_yet_is_left_alone() -> None:
    class Unsettled:
        settled = False

        def __call__(self, *_: object) -> None:
            raise AssertionError("it would be converted")

    vae: Any = pipelines.vae()
    vae.encoder.forward = Unsettled()  # as a seam stands there
    with Previews(Pipe(vae), CALL).shown([waiting(Hooks())]) as extra:
        assert extra == {}


def test_what_the_scheduler_expects_is_shown_rather_than_the_noise() -> None:
    vae, watcher, pixels = LinearVae(), Watcher(), photo(32, 32)
    expected = latents_of(vae, pixels)
    pipe: Any = Pipe(vae)
    pipe.scheduler = Scheduler(expected)
    with Previews(pipe, CALL).shown([waiting(watcher.hooks)]) as extra:
        assert "eta" in inspect.signature(pipe.scheduler.step).parameters, "pipelines look for it"
        noisy, _ = pipe.scheduler.step(torch.zeros(1, 4, 8, 8), eta=0.5)
        extra[CALLBACK](pipe, 0, 0, {LATENTS: noisy})
    assert vars(pipe.scheduler) == {"_expected": expected}
    (found,) = watcher.pictures
    assert np.abs(found - cell_means(pixels, 8, 8)).max() <= 0.51


def test_the_chart_has_all_colours_and_is_always_the_same() -> None:
    pixels = chart(128)
    assert np.array_equal(pixels, chart(128))
    cells: NDArray[np.float64] = cell_means(pixels, 16, 16).reshape(-1, 3)
    assert cells.min() < 30
    assert cells.max() > 225
    assert np.linalg.cond(np.cov(cells.T)) < 3


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("name", SHOWN)
def test_steps_are_shown_and_the_result_is_the_same(
    name: str,
    families: dict[str, Family],
    exact: Exact,
    pixels: Pixels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family, backend, watcher = families[name], exact(name), Watcher()
    asked = job(family.spec, pixels, family.parameters, family.images, watcher.hooks)
    state = torch.random.get_rng_state()
    (shown,) = backend.run([asked])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(watcher.seen) >= watcher.hooks.progress[1], "some schedulers begin with half steps"
    for picture in watcher.pictures:
        assert picture.shape == (32, 32, 3)
    assert len(set(watcher.seen)) > 1
    assert "step" not in vars(backend._pipe.scheduler)
    monkeypatch.setattr(backend, "_previews", Previews(backend._pipe, {}))
    number = len(watcher.seen)
    (plain,) = backend.run([asked])
    assert len(watcher.seen) == number
    assert np.array_equal(shown.pixels, plain.pixels)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("name", NOT_SHOWN)
def test_some_pipelines_show_nothing(
    name: str, families: dict[str, Family], exact: Exact, pixels: Pixels
) -> None:
    family, watcher = families[name], Watcher()
    exact(name).run([job(family.spec, pixels, family.parameters, family.images, watcher.hooks)])
    assert watcher.seen == []


@pytest.mark.usefixtures("often")
def test_a_batch_is_shown_what_each_is_shown_alone(
    families: dict[str, Family], exact: Exact
) -> None:
    family, backend = families["pix2pix"], exact("pix2pix")
    together, alone = [Watcher(), Watcher()], [Watcher(), Watcher()]

    def jobs(watchers: list[Watcher]) -> list[Job]:
        return [
            job(family.spec, photo(64, 64, n), family.parameters | {"seed": n}, hooks=each.hooks)
            for n, each in enumerate(watchers)
        ]

    backend.run(jobs(together))
    for one in jobs(alone):
        backend.run([one])
    for many, single in zip(together, alone, strict=True):
        for found, expected in zip(many.pictures, single.pictures, strict=True):
            assert np.abs(found.astype(int) - expected).max() <= 1
    assert together[0].seen != together[1].seen


def test_the_memo_is_left_alone(families: dict[str, Family], pixels: Pixels) -> None:
    family = families["pix2pix"]
    machine = Machine(precision="f32", diffusion=Diffusion(engine="torch"))
    kept = []
    for fits in (True, False):
        backend = load(family.spec, lambda _: b"", machine)
        backend._previews._is_open = fits
        backend.run([job(family.spec, pixels, family.parameters)])
        assert (backend._previews._palette is not None) == fits
        kept.append((backend.memo.used_bytes, backend.memo.hits, list(backend.memo._kept)))
    assert kept[0] == kept[1]


@pytest.mark.usefixtures("often")
def test_an_encoder_on_openvino_teaches_the_same(
    families: dict[str, Family], exact: Exact, pixels: Pixels
) -> None:
    family, watcher = families["img2img"], Watcher()
    backend = load(family.spec, lambda _: b"", Machine(precision="f32"))
    asked = job(family.spec, pixels, family.parameters, hooks=watcher.hooks)
    backend.run([asked])
    exact("img2img").run([asked])
    found, expected = (each._previews._palette for each in (backend, exact("img2img")))
    assert found is not None
    assert expected is not None
    assert np.allclose(found.weights, expected.weights, rtol=0.01, atol=0.5)
    half = len(watcher.seen) // 2
    assert half >= watcher.hooks.progress[1]
    pairs = zip(watcher.pictures[:half], watcher.pictures[half:], strict=True)
    assert all(np.abs(one.astype(int) - other).max() <= 3 for one, other in pairs)
