"""The same pictures with the networks on OpenVINO, up to rounding."""

import logging
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import DiffusersBackend, load
from calotype.backends.diffusion import seam as seams
from calotype.backends.diffusion.forward import put_together
from calotype.backends.diffusion.graph import Shelf
from calotype.backends.openvino import Engine
from calotype.domain.image import Pixels
from diffusion.conftest import PROMPT, Family
from models import job, photo, psnr
from pipelines import FAMILIES

LEAST_DB = 40.0


@pytest.fixture(scope="module")
def accelerated(
    families: dict[str, Family], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], DiffusersBackend]:
    """Backends on OpenVINO in f32, each loaded once."""
    cache = tmp_path_factory.mktemp("converted")
    loaded: dict[str, DiffusersBackend] = {}

    def find(name: str) -> DiffusersBackend:
        if name not in loaded:
            machine = Machine(cache_dir=cache, precision="f32")
            loaded[name] = load(families[name].spec, lambda _: b"", machine)
        return loaded[name]

    return find


def run(backend: DiffusersBackend, family: Family, pixels: Pixels, **changes: object) -> Pixels:
    parameters = {**family.parameters, **changes}
    h, w = pixels.shape[:2]
    images = {name: np.resize(mask, (h, w, 3)) for name, mask in family.images.items()}
    (answer,) = backend.run([job(family.spec, pixels, parameters, images)])
    return answer.pixels


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_close_to_pytorch(
    name: str,
    families: dict[str, Family],
    exact: Callable[[str], DiffusersBackend],
    accelerated: Callable[[str], DiffusersBackend],
    pixels: Pixels,
) -> None:
    family, backend = families[name], accelerated(name)
    # Another size than the one that was traced, and a batch without guidance.
    cases: list[tuple[Pixels, dict[str, object]]] = [(pixels, {}), (photo(64, 48, 3), {"seed": 9})]
    if family.spec.param("guidance_scale"):
        cases.append((photo(48, 64, 4), {"guidance_scale": 0.5}))
    for picture, changes in cases:
        found = run(backend, family, picture, **changes)
        expected = run(exact(name), family, picture, **changes)
        assert psnr(found, expected) >= LEAST_DB
    assert "on OpenVINO" in backend.precision
    assert ("on PyTorch" in backend.precision) == (name == "latent-upscale")


def test_what_was_converted_is_found_by_the_next_start(
    families: dict[str, Family], tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, machine = families["pix2pix"], Machine(cache_dir=tmp_path, precision="f32")
    first = run(load(family.spec, lambda _: b"", machine), family, pixels)

    def refuse(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(seams, "convert", refuse)
    second = load(family.spec, lambda _: b"", machine)
    assert "on PyTorch" not in second.precision
    assert np.array_equal(run(second, family, pixels), first)
    weights = sum(seams.weight_bytes(network) for network in second._networks.values())
    assert weights == 0, "weights of converted networks were read"


def test_a_damaged_conversion_is_made_anew(
    families: dict[str, Family], tmp_path: Path, pixels: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    family, machine = families["pix2pix"], Machine(cache_dir=tmp_path, precision="f32")
    first = run(load(family.spec, lambda _: b"", machine), family, pixels)
    (weights,) = tmp_path.rglob("unet.bin")
    weights.write_bytes(weights.read_bytes()[:-100])
    second = run(load(family.spec, lambda _: b"", machine), family, pixels)
    assert np.array_equal(first, second)
    assert "converting anew" in caplog.text


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_network_that_cannot_be_converted_runs_on_pytorch_and_says_so(  # noqa: PLR0917  fixtures
    precision: str,
    families: dict[str, Family],
    exact: Callable[[str], DiffusersBackend],
    tmp_path: Path,
    pixels: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an operation of the future")

    monkeypatch.setattr(seams, "convert", fail)
    family = families["pix2pix"]
    machine = Machine(cache_dir=tmp_path, precision=precision)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        backend = load(family.spec, lambda _: b"", machine)
    assert "unet runs on PyTorch, which is slower: it can't be converted" in caplog.text
    assert "an operation of the future" in caplog.text
    assert "unet" in backend.precision
    found = run(backend, family, pixels)
    assert psnr(found, run(exact("pix2pix"), family, pixels)) >= (60 if precision == "f32" else 30)


def test_a_network_that_ends_the_process_each_time_is_left_alone(
    families: dict[str, Family], tmp_path: Path
) -> None:
    family, machine = families["pix2pix"], Machine(cache_dir=tmp_path, precision="f32")
    backend = load(family.spec, lambda _: b"", machine)
    assert "PyTorch" not in backend.precision
    assert not list(tmp_path.rglob("*.trying")), "what went well leaves no mark"
    (kept,) = (tmp_path / "converted").iterdir()

    def ended(times: int) -> str:
        """Return what is said after so many processes that ended while they converted it."""
        for file in kept.glob("text_encoder.*"):
            file.unlink()
        (kept / "text_encoder.trying").write_text("." * times)
        return load(family.spec, lambda _: b"", machine).precision

    assert "PyTorch" not in ended(1), "once may have had another reason"
    assert ended(2).endswith("text_encoder on PyTorch")


def test_a_network_that_computes_something_else_is_refused(  # noqa: PLR0917  fixtures
    families: dict[str, Family],
    exact: Callable[[str], DiffusersBackend],
    tmp_path: Path,
    pixels: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    right = put_together

    def wrong(tensors: list[torch.Tensor], shape: list[tuple[str, int]]) -> object:
        return right([tensor * 1.5 for tensor in tensors], shape)

    family = families["img2img"]
    with monkeypatch.context() as patch:
        patch.setattr(
            seams.Seam, "_torch", lambda self, call: self._forward(**call.tensors, **call.rest)
        )
        patch.setattr(seams, "put_together", wrong)
        backend = load(family.spec, lambda _: b"", Machine(cache_dir=tmp_path, precision="f32"))
        found = run(backend, family, pixels)
    assert "would be rounding" in caplog.text
    assert np.array_equal(found, run(exact("img2img"), family, pixels))


def test_another_prompt_and_another_picture_are_no_neighbours(
    families: dict[str, Family], accelerated: Callable[[str], DiffusersBackend], pixels: Pixels
) -> None:
    family, backend = families["pix2pix"], accelerated("pix2pix")
    first = run(backend, family, pixels)
    run(backend, family, photo(64, 64, 5), prompt="turn it red", seed=1)
    assert np.array_equal(run(backend, family, pixels, prompt=PROMPT), first)


def test_company_is_not_sought_where_it_gains_nothing(
    accelerated: Callable[[str], DiffusersBackend], exact: Callable[[str], DiffusersBackend]
) -> None:
    assert accelerated("pix2pix").batching is None
    assert exact("pix2pix").batching is not None
    assert Diffusion().engine == "auto"


def test_a_network_that_is_told_sizes_as_numbers_is_not_converted() -> None:
    torch.manual_seed(0)
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    ).eval()

    def call(height: int, width: int) -> torch.Tensor:
        torch.manual_seed(1)
        answer: torch.Tensor = network(
            hidden_states=torch.randn(1, height * width, 16),
            encoder_hidden_states=torch.randn(1, 5, 16),
            timestep=torch.tensor([0.5]),
            img_shapes=[[(1, height, width)]],
            return_dict=False,
        )[0]
        return answer

    sizes = [(2, 3), (3, 4)]
    with torch.inference_mode():
        expected = [call(*size) for size in sizes]
        shelf = Shelf(None, "", half=False)
        engine = Engine(Machine(precision="f32"))
        seam = seams.Seam("transformer", network, engine, shelf, lambda: network)
        assert seam.settled
        assert "for every size" in seam.trouble
        assert all(torch.equal(call(*s), e) for s, e in zip(sizes, expected, strict=True))
