"""What a diffusers pipeline's call takes, read from its source.

Importing diffusers would import PyTorch, which takes seconds and hundreds of megabytes; the
server's process does without both.
"""

import ast
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calotype.domain.diffusion import REQUIRED, Defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a pipeline class is called."""

    name: str
    defaults: Defaults
    bases: tuple[str, ...]
    """Names of the classes it inherits from."""

    @property
    def takes_loras(self) -> bool:
        """Whether adapters can be loaded into it."""
        return any(base.endswith("LoraLoaderMixin") for base in self.bases)


def installed() -> bool:
    """Tell whether diffusers is there, without importing it."""
    return importlib.util.find_spec("diffusers") is not None


@cache
def read_signature(name: str) -> Signature | None:
    """Return how a pipeline class is called; None where diffusers has none of that name."""
    if not name.isidentifier() or not installed():
        return None
    found = _find(name)
    if found is None:
        return None
    bases = tuple(base.id for base in found.bases if isinstance(base, ast.Name))
    call = next(
        (f for f in found.body if isinstance(f, ast.FunctionDef) and f.name == "__call__"), None
    )
    if call is not None:
        return Signature(name=name, defaults=_defaults(call.args), bases=bases)
    parents = (read_signature(base) for base in bases if base.endswith("Pipeline"))
    parent = next((p for p in parents if p is not None), None)
    if parent is None:
        return None
    return Signature(name=name, defaults=parent.defaults, bases=(*bases, *parent.bases))


def is_part_of_diffusers(library: str) -> bool:
    """Tell whether a component's library is a folder of diffusers' own pipelines."""
    return library.isidentifier() and any((root / library).is_dir() for root in _roots())


def _roots() -> Iterable[Path]:
    """Return where the pipelines' source is."""
    spec = importlib.util.find_spec("diffusers")
    places = spec.submodule_search_locations if spec else None
    return [Path(place) / "pipelines" for place in places or ()]


def _find(name: str) -> ast.ClassDef | None:
    """Find a class in the source."""
    pattern = re.compile(rb"^class %s\b" % name.encode(), re.MULTILINE)
    for root in _roots():
        for path in sorted(root.rglob("pipeline_*.py")):
            source = path.read_bytes()
            if not pattern.search(source):
                continue
            for node in ast.parse(source).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return node
    return None


def _defaults(arguments: ast.arguments) -> dict[str, object]:
    """Read names and defaults; what is no plain value counts as None."""
    names = [argument.arg for argument in arguments.args[1:]]  # without self
    values: list[object] = [_value(node) for node in arguments.defaults]
    padded = [REQUIRED] * (len(names) - len(values)) + values
    keywords = {
        argument.arg: REQUIRED if node is None else _value(node)
        for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    }
    return dict(zip(names, padded, strict=True)) | keywords


def _value(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
