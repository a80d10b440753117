"""Every model this process can serve, by id and alias."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from calotype.catalog.scan import scan_models_dir
from calotype.catalog.schema import index_names, load_catalog_file
from calotype.domain.chain import Chain, stage_names
from calotype.domain.model import ModelSpec
from calotype.domain.text import printable
from calotype.errors import InvalidCatalogError, InvalidSettingError, UnknownModelError

EMBEDDED = Path(__file__).with_name("models.toml")
"""The models that come with the package's dependencies."""

_NAME_CHARS = 200


class Catalog:
    """A set of models.

    Args:
        specs: the models; at least one.
        default: id or alias of the one that answers when none is named; empty: the first.

    Raises:
        InvalidCatalogError: none at all, or two share a name.
        InvalidSettingError: the default is none of them.
    """

    def __init__(self, specs: Iterable[ModelSpec], default: str = "") -> None:
        models = list(specs)
        if not models:
            raise InvalidCatalogError("a catalog must have at least one model")
        self._names = index_names(models)
        if default and default not in self._names:
            raise InvalidSettingError(f"default_model must be in the catalog, got {default!r}")
        self._models = tuple(sorted(models, key=lambda spec: spec.id))
        self._default = self._names[default] if default else models[0]

    @property
    def default(self) -> ModelSpec:
        """The model that answers when none is named."""
        return self._default

    def all(self) -> tuple[ModelSpec, ...]:
        """Return every model, by id."""
        return self._models

    def add(self, specs: Iterable[ModelSpec]) -> None:
        """Take models that were not there at the start; those of known ids stay as they are.

        Raises:
            InvalidCatalogError: an alias is taken.
        """
        known = {spec.id for spec in self._models}
        models = [*self._models, *(spec for spec in specs if spec.id not in known)]
        self._names = index_names(models)
        self._models = tuple(sorted(models, key=lambda spec: spec.id))

    def open(self, spec: ModelSpec) -> ModelSpec:
        """Take a model of any name, and return it; where another has its id, it gets a longer one.

        Raises:
            InvalidCatalogError: that one is taken too.
        """
        if (known := self._names.get(spec.id)) is not None and known.revision != spec.revision:
            spec = replace(spec, id=f"{spec.id}-{spec.revision}")
        self.add([spec])
        return self.get(spec.id)

    def get(self, name: str) -> ModelSpec:
        """Return the model of that id or alias; the default for an empty name.

        Raises:
            UnknownModelError: there is none.
        """
        if not name:
            return self._default
        if (spec := self._names.get(name)) is None:
            raise unknown_model(name)
        return spec

    def stages(self, name: str) -> tuple[str, ...]:
        """Return the names of the models that a name joins with ``+``; of one, that name alone.

        Raises:
            UnknownModelError: it joins nothing, or too many.
        """
        return (name,) if name in self._names else stage_names(name)

    def chain(self, name: str) -> Chain:
        """Return what a name stands for: one model as ``get`` does, or several joined by ``+``.

        Raises:
            UnknownModelError: there is none of one of the names.
        """
        return Chain(tuple(self.get(stage) for stage in self.stages(name)))


def unknown_model(name: str) -> UnknownModelError:
    """Return what is told of a model that isn't there."""
    # Clients match this text: nothing may come before or after it.
    return UnknownModelError(f"Model {printable(name, _NAME_CHARS)} does not exist")


def build_catalog(
    catalog_file: Path | None = None, models_dir: Path | None = None, default: str = ""
) -> Catalog:
    """Join the embedded models, a catalog file's, and those in the user's folder.

    Args:
        catalog_file: TOML file with further models.
        models_dir: folder of the user's own models; it need not exist.
        default: id or alias of the default model; empty: the first embedded one.

    Raises:
        InvalidCatalogError: a file is wrong, or two models share a name.
        InvalidSettingError: the default is none of them.
    """
    specs = load_catalog_file(EMBEDDED)
    if catalog_file is not None:
        specs += load_catalog_file(catalog_file)
    if models_dir is not None:
        specs += scan_models_dir(models_dir)
    return Catalog(specs, default)
