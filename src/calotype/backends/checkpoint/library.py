"""The library spandrel, with all architectures that are installed, and without its notices."""

import importlib
import importlib.metadata
import importlib.util
import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it uses of torch will go one day
    import spandrel

__all__ = ["EXTRA", "has_extra", "hush", "registry", "spandrel", "versions"]

EXTRA = "spandrel_extra_arches"
"""Package of further architectures, whose licences are less free."""
_TALKERS = r"(spandrel|torch|timm|openvino|calotype\.backends\.checkpoint)"


def hush() -> None:
    """Keep notices on what will change in the libraries for themselves."""
    warnings.filterwarnings("ignore", module=_TALKERS)


def has_extra() -> bool:
    """Tell whether there are further architectures."""
    return importlib.util.find_spec(EXTRA) is not None


def registry() -> spandrel.ArchRegistry:
    """Return all architectures."""
    found = spandrel.MAIN_REGISTRY.copy()
    if has_extra():
        extra = importlib.import_module(EXTRA)
        found.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)
    return found


def versions() -> str:
    """Name what networks are made with, and computed with."""
    extra = importlib.metadata.version(EXTRA) if has_extra() else ""
    return f"{torch.__version__} {spandrel.__version__} {extra}"
