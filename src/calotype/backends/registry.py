"""The only place that names concrete backends; each is imported when first used."""

import importlib

from calotype.backends.base import Backend, Machine, ReadWeights
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError, MissingExtraError

BACKENDS: dict[str, str] = {
    "fake": "calotype.backends.fake",
    "diffusers": "calotype.backends.diffusers",
    "openvino": "calotype.backends.tiled",
    "style": "calotype.backends.style",
    "style-image": "calotype.backends.style_image",
}
"""Catalog key -> module with a function ``load(spec, read_weights, machine) -> Backend``."""


def load_backend(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> Backend:
    """Load a model.

    Raises:
        InvalidCatalogError: the spec names a backend that doesn't exist.
        MissingExtraError: the backend's library isn't installed.
        MissingWeightsError: a weight file is missing or wrong.
    """
    if spec.backend not in BACKENDS:
        raise InvalidCatalogError(
            f"{spec.id}: backend must be one of {', '.join(sorted(BACKENDS))}, got {spec.backend}"
        )
    try:
        module = importlib.import_module(BACKENDS[spec.backend])
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{spec.id} needs {error.name}: pip install 'calotype[{spec.backend}]'"
        ) from error
    backend: Backend = module.load(spec, read_weights, machine)
    return backend
