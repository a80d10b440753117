"""The only place that names concrete backends; each is imported when first used."""

import importlib
from importlib.metadata import entry_points

from calotype.backends.base import Backend, Machine, ReadWeights
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError, MissingExtraError

BACKENDS: dict[str, str] = {
    "fake": "calotype.backends.fake",
    "colorize": "calotype.backends.colorize",
    "diffusers": "calotype.backends.diffusers",
    "inpaint": "calotype.backends.inpaint",
    "openvino": "calotype.backends.tiled",
    "spandrel": "calotype.backends.spandrel",
    "style": "calotype.backends.style",
    "style-image": "calotype.backends.style_image",
}
"""Catalog key -> module with a function ``load(spec, read_weights, machine) -> Backend``."""

GROUP = "calotype.backends"
"""Entry points of this group are backends of other packages, under other names than ours."""

EXTRAS: dict[str, str] = {
    "diffusers": "'calotype[diffusers]'",
    "inpaint": "pypatchmatch",
    "spandrel": "'calotype[torch]'",
}
"""What ``pip install`` takes to bring what a backend needs."""


def load_backend(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> Backend:
    """Load a model.

    Raises:
        InvalidCatalogError: the spec names a backend that doesn't exist.
        MissingExtraError: the backend's library isn't installed.
        MissingWeightsError: a weight file is missing or wrong.
    """
    try:
        module = importlib.import_module(_module(spec))
    except ModuleNotFoundError as error:
        needed = EXTRAS.get(spec.backend, str(error.name))
        raise MissingExtraError(f"{spec.id} needs {error.name}: pip install {needed}") from error
    backend: Backend = module.load(spec, read_weights, machine)
    return backend


def _module(spec: ModelSpec) -> str:
    """Name the module of a backend: ours, or one that an installed package offers."""
    if (module := BACKENDS.get(spec.backend)) is not None:
        return module
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    if spec.backend not in others:
        names = ", ".join(sorted({*BACKENDS, *others}))
        raise InvalidCatalogError(f"{spec.id}: backend must be one of {names}, got {spec.backend}")
    return others[spec.backend]
