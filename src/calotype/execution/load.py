"""Load a model, wherever it is to run."""

from calotype.backends.base import Backend, Machine
from calotype.backends.registry import load_backend
from calotype.catalog import weights
from calotype.domain.model import ModelSpec


def load_model(spec: ModelSpec, machine: Machine) -> Backend:
    """Load a model, its weights checked against their digests.

    Raises:
        CalotypeError: it can't be loaded.
    """
    files = {file.role: file for file in spec.files}
    return load_backend(spec, lambda role: weights.read(files[role]), machine)
