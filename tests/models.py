"""Loading real models in tests, as the pool does."""

from pathlib import Path

import numpy as np

from calotype.backends.base import Backend, Machine, Precision
from calotype.catalog.catalog import build_catalog
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image, Pixels
from calotype.domain.model import ModelSpec
from calotype.domain.params import apply_params
from calotype.domain.request import Job
from calotype.running import backend_loader

CATALOG = build_catalog()


def load(spec: ModelSpec, cache_dir: Path | None, precision: Precision = "f32") -> Backend:
    """Load a model in a precision that gives the same pixels on every machine."""
    return backend_loader(spec, Machine(cache_dir=cache_dir, precision=precision))()


def job(
    spec: ModelSpec,
    pixels: Pixels,
    parameters: dict[str, object] | None = None,
    images: dict[str, Pixels] | None = None,
    hooks: Hooks | None = None,
) -> Job:
    """Make a job with validated parameters."""
    raw = {**(parameters or {}), **dict.fromkeys(images or {}, b"decoded already")}
    return Job(
        model=spec,
        image=Image(pixels),
        params=apply_params(spec, raw).values,
        images={name: Image(value) for name, value in (images or {}).items()},
        hooks=hooks or Hooks(),
    )


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    """Make a picture with smooth areas, edges and texture, for where no real one is at hand."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = []
    for _ in range(3):
        fx, fy, phase = rng.uniform(0.01, 0.12, 3)
        wave = np.sin(x * fx + phase * 50) + np.cos(y * fy + phase * 30)
        edge = np.where((x * fx * 9 + y * fy * 7) % 11 > 5, 0.8, -0.8)
        planes.append(wave + edge + rng.normal(0, 0.08, (height, width)))
    stack = np.stack(planes, axis=-1)
    low, high = stack.min(), stack.max()
    pixels: Pixels = np.rint((stack - low) / (high - low) * 255).astype(np.uint8)
    return pixels


def psnr(a: Pixels, b: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two pictures in dB."""
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))
