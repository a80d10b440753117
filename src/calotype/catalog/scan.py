"""The user's own models: every network file in a folder, named by its path in there."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from calotype.catalog.adapter import ADAPTERS
from calotype.catalog.diffusion import describe_pipeline, merged
from calotype.catalog.network import describe_checkpoint
from calotype.catalog.schema import build_model, is_model_id, user_file
from calotype.catalog.table import Table, read_toml
from calotype.catalog.tensors import SUFFIXES
from calotype.domain.diffusion import INDEX
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import InvalidCatalogError

NETWORKS = (".onnx", ".param", *SUFFIXES)
"""Suffixes of files that are a network each, the preferred first."""

_BACKEND = "openvino"
_ID_PARTS = 2
_ODD = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+")

_log = logging.getLogger(__name__)


def scan_models_dir(folder: Path) -> list[ModelSpec]:
    """Describe every network and every diffusers pipeline below a folder.

    Networks are ``.onnx`` files, ``.param`` files with their ``.bin``, and checkpoints of PyTorch,
    but for adapters in the folder ``loras``; a pipeline is a folder with a ``model_index.json``.
    ``acme/my-net.onnx`` is the model ``acme/my-net``; of deeper files
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
        elif (spec := _network(network, root, name)) is not None:
            specs[name] = spec
    return list(specs.values())


def describe_file(network: Path) -> ModelSpec:
    """Describe a network that lies anywhere, with the TOML file beside it.

    Args:
        network: a file with one of the suffixes of ``NETWORKS``.

    Returns:
        The model, called like the file, without an alias.

    Raises:
        InvalidCatalogError: it can't be served, or the TOML file beside it is wrong.
    """
    network = network.resolve()
    name = _ODD.sub("-", network.stem).lstrip("-._") or "model"
    try:
        files = _files(network, network.parent)
        return replace(_model(network, network.parent, name, files), alias="")
    except _UnservedError as error:
        raise InvalidCatalogError(f"{network.name} can't be run: {error}") from error


class _UnservedError(Exception):
    """Says why a file is left out."""


def _networks(root: Path) -> Iterator[Path]:
    """Yield networks and folders of pipelines in a fixed order, hidden ones left out."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(parent) == root and ADAPTERS in folders:
            folders.remove(ADAPTERS)
        if INDEX in names and Path(parent) != root:
            folders.clear()
            yield Path(parent)
            continue
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        networks = [path for path in paths if path.suffix.lower() in NETWORKS]
        yield from sorted(networks, key=lambda p: (p.stem, NETWORKS.index(p.suffix.lower()), p))


def _network(network: Path, root: Path, id: str) -> ModelSpec | None:
    """Make a spec of a network's file, or log why it cannot be served."""
    try:
        return _model(network, root, id, _files(network, root))
    except _UnservedError as error:
        _log.warning("%s is not served: %s", network, error)
        return None


def _files(network: Path, root: Path) -> tuple[WeightFile, ...]:
    """Describe the weights of a network, or say why they cannot be served."""
    suffix = network.suffix.lower()
    roles = {"checkpoint" if suffix in SUFFIXES else suffix[1:]: network}
    if suffix == ".param":
        roles["bin"] = network.with_suffix(".bin")
    for path in roles.values():
        if not path.is_file():
            raise _UnservedError(f"there is no file {path.name}")
        if not path.resolve().is_relative_to(root):
            raise _UnservedError(f"{path.name} is a link out of the models folder")
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
    return build_model(Table(merged(_found(network), said), where), id, files)


def _found(network: Path) -> Mapping[str, object]:
    """Say of a network what needs no user."""
    if network.suffix.lower() not in SUFFIXES:
        return {"backend": _BACKEND}
    try:
        return describe_checkpoint(network)
    except InvalidCatalogError as error:
        raise _UnservedError(str(error)) from error


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
