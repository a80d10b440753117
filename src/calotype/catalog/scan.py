"""The user's own models: every network file in a folder, named by its path in there."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from calotype.catalog.diffusion import describe_pipeline
from calotype.catalog.schema import build_model, is_model_id, user_file
from calotype.catalog.table import Table, read_toml
from calotype.domain.diffusion import INDEX
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import InvalidCatalogError

_BACKEND = "openvino"
_SUFFIXES = (".onnx", ".param")
_ID_PARTS = 2

_log = logging.getLogger(__name__)


def scan_models_dir(folder: Path) -> list[ModelSpec]:
    """Describe every network and every diffusers pipeline below a folder.

    Networks are ``.onnx`` files, and ``.param`` files with their ``.bin``; a pipeline is a folder
    with a ``model_index.json``. ``acme/my-net.onnx`` is the model ``acme/my-net``; of deeper files
    the last two names count. A file ``my-net.toml`` beside it may set what a ``[[model]]`` table
    sets, but id and files. What cannot be served is logged and left out. Links that lead out of
    the folder are not followed.

    Args:
        folder: where to look; it need not exist.

    Raises:
        InvalidCatalogError: a TOML file beside a model is wrong.
    """
    root = folder.resolve()
    specs: dict[str, ModelSpec] = {}
    for network in _networks(root):
        name = "/".join((*network.parent.relative_to(root).parts, _stem(network))[-_ID_PARTS:])
        if not is_model_id(name):
            _log.warning("%s is not served: %s cannot be a model's name", network, name)
        elif name in specs:
            _log.warning("%s is not served: another file is called %s already", network, name)
        elif network.is_dir():
            if (spec := _pipeline(network, root, name)) is not None:
                specs[name] = spec
        elif (files := _files(network, root)) is not None:
            specs[name] = _model(network, root, name, files)
    return list(specs.values())


def _networks(root: Path) -> Iterator[Path]:
    """Yield networks and folders of pipelines in a fixed order, hidden ones left out."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if INDEX in names and Path(parent) != root:
            folders.clear()
            yield Path(parent)
            continue
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield path


def _files(network: Path, root: Path) -> tuple[WeightFile, ...] | None:
    """Describe the weights of a network, or log why they cannot be served."""
    if network.suffix.lower() == ".onnx":
        roles = {"onnx": network}
    else:
        roles = {"param": network, "bin": network.with_suffix(".bin")}
    for path in roles.values():
        if not path.is_file():
            _log.warning("%s is not served: there is no file %s", network, path.name)
            return None
        if not path.resolve().is_relative_to(root):
            _log.warning("%s is not served: it is a link out of the models folder", path)
            return None
    return tuple(user_file(role, path) for role, path in roles.items())


def _pipeline(folder: Path, root: Path, id: str) -> ModelSpec | None:
    """Make a spec of a pipeline's folder, or log why it cannot be served."""
    said, where = _said(folder, root, id)
    try:
        return describe_pipeline(folder, id, said, where)
    except InvalidCatalogError as error:
        if str(error).startswith(where):
            raise  # the user's own words are wrong
        _log.warning("%s is not served: %s", folder, error)
        return None


def _model(network: Path, root: Path, id: str, files: tuple[WeightFile, ...]) -> ModelSpec:
    """Make a spec of a network and the TOML file beside it."""
    said, where = _said(network, root, id)
    return build_model(Table({"backend": _BACKEND} | said, where), id, files)


def _said(network: Path, root: Path, id: str) -> tuple[dict[str, object], str]:
    """Read the TOML file beside a model; return what it says, and how to name it in errors."""
    sidecar = network.with_name(f"{_stem(network)}.toml")
    where = f"{sidecar}: model {id}"
    if not sidecar.is_file():
        return {}, where
    if not sidecar.resolve().is_relative_to(root):
        raise InvalidCatalogError(f"{where}: it is a link out of the models folder")
    return read_toml(sidecar), where


def _stem(network: Path) -> str:
    """Return a model's own name; a folder has no suffix, whatever dots are in it."""
    return network.name if network.is_dir() else network.stem
