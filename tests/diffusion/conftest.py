"""Tiny pipelines of random weights, one of each family, saved once for all tests."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from calotype.backends.base import Diffusion, Machine
from calotype.catalog.scan import scan_models_dir
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from models import photo

pytest.importorskip("diffusers", reason="needs the extra diffusers")

import diffusers
import PIL.Image
import torch

import pipelines
from calotype.backends.diffusers import DiffusersBackend, load

SMALL_NATIVE = "options.native_px = 64\n"
"""Their configurations say nothing of sizes, and their default is far too large for a test."""
PROMPT = "make it snow"
SIDE_PX = 64


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the libraries warn of each other."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@dataclass(frozen=True, slots=True)
class Family:
    """One pipeline, and how to call it."""

    spec: ModelSpec
    folder: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """What a request for it sends, but for pictures."""
        wanted: dict[str, Any] = {"num_inference_steps": 4, "seed": 7}
        if self.spec.param("mask_blur"):
            wanted["mask_blur"] = 0
        if self.spec.param("prompt"):
            wanted["prompt"] = PROMPT
        if self.spec.param("strength"):
            wanted["strength"] = 0.75
        return wanted

    @property
    def images(self) -> dict[str, Pixels]:
        """The pictures that are parameters."""
        return {"mask_image": hole(SIDE_PX, SIDE_PX)} if self.spec.param("mask_image") else {}

    def direct(self, pixels: Pixels, **changes: Any) -> Pixels:
        """Return what diffusers itself makes of a picture, with the same arguments."""
        arguments = self.parameters | changes
        arguments.pop("mask_blur", None)
        generator = torch.Generator().manual_seed(arguments.pop("seed"))
        cls = getattr(diffusers, str(self.spec.options["class"]))
        pipe = cls.from_pretrained(self.folder, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        arguments["image"] = PIL.Image.fromarray(pixels)
        if self.images:
            arguments["mask_image"] = PIL.Image.fromarray(self.images["mask_image"]).convert("L")
        height, width = pixels.shape[:2]
        if "Kontext" in cls.__name__:
            arguments |= {"_auto_resize": False, "max_area": height * width}
        if any(word in cls.__name__ for word in ("Flux", "Inpaint", "Diffusion3", "XLInstruct")):
            arguments |= {"height": height, "width": width}
        with torch.inference_mode():
            result = pipe(generator=generator, **arguments)
        answer: Pixels = np.array(result.images[0])
        if not self.images:
            return answer
        repainted = self.images["mask_image"] > 127
        return np.where(repainted, answer, pixels)


def hole(height: int, width: int) -> Pixels:
    """Make a mask: white in the middle."""
    mask = np.zeros((height, width, 3), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    return mask


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one pipeline of each family."""
    folder = tmp_path_factory.mktemp("pipelines")
    for name, build in pipelines.FAMILIES.items():
        pipelines.save(folder, name, build())
    for name in ("kontext", "fill"):
        (folder / "acme" / f"{name}.toml").write_text(SMALL_NATIVE)
    return folder


@pytest.fixture(scope="session")
def families(models_dir: Path) -> dict[str, Family]:
    """All of them, by name."""
    specs = {spec.id: spec for spec in scan_models_dir(models_dir)}
    return {
        name: Family(specs[f"acme/{name}"], models_dir / "acme" / name)
        for name in pipelines.FAMILIES
    }


@pytest.fixture(scope="session")
def exact(families: dict[str, Family]) -> Callable[[str], DiffusersBackend]:
    """Backends on PyTorch in f32, each loaded once."""
    loaded: dict[str, DiffusersBackend] = {}
    machine = Machine(precision="f32", diffusion=Diffusion(engine="torch"))

    def find(name: str) -> DiffusersBackend:
        if name not in loaded:
            loaded[name] = load(families[name].spec, lambda _: b"", machine)
        return loaded[name]

    return find


@pytest.fixture
def pixels() -> Pixels:
    """A picture that needs no rounding."""
    return photo(SIDE_PX, SIDE_PX)


def png(pixels: Pixels) -> bytes:
    """Write a picture as a file."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encoded(pixels: Pixels) -> str:
    """Write a picture as a parameter."""
    return base64.b64encode(png(pixels)).decode()


def shown(response: httpx.Response) -> Pixels:
    """Return the picture of an answer."""
    assert response.status_code == 200, response.text
    answer: Pixels = np.array(PIL.Image.open(io.BytesIO(response.content)).convert("RGB"))
    return answer
