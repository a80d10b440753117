"""Image-to-image models as a server, a command line and a library."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calotype.local import Calotype
    from calotype.picture import Picture, SavedPicture

__all__ = ["Calotype", "Picture", "SavedPicture", "__version__"]

__version__: str
"""Version of the installed package."""


def __getattr__(name: str) -> object:
    """Import on first use, so that ``import calotype.errors`` costs next to nothing."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("calotype")
    if name in __all__:
        module = "calotype.local" if name == "Calotype" else "calotype.picture"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
