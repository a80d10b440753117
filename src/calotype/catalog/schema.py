"""From TOML tables to model specs: what a catalog file may say."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast, get_args

from calotype.catalog.parameter import parse_params
from calotype.catalog.table import Table, read_toml
from calotype.domain.model import AUTO, ModelSpec, Task, WeightFile
from calotype.errors import InvalidCatalogError

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = re.compile(rf"{_PART}(/{_PART})?")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION_CHARS = 16
_OVERLAP_SHARE = 4
_CHOOSING = frozenset({"colorize", "inpaint", "spandrel"})
"""Backends that have no tiles, or choose them by the network, unless they are given."""


def load_catalog_file(path: Path) -> list[ModelSpec]:
    """Read the ``[[model]]`` tables of a catalog file.

    Args:
        path: TOML file; the paths of the user's own weights in it are relative to its folder.

    Raises:
        InvalidCatalogError: an unknown key, a wrong value, or a name that comes twice.
    """
    file = Table(read_toml(path), str(path))
    entries = file.tables("model")
    file.finish()
    specs = []
    for entry in entries:
        name = entry.text("id")
        if not is_model_id(name):
            raise entry.wrong("id", "a name such as acme/my-net", name)
        table = Table({key: entry.take(key) for key in entry}, f"{path}: model {name}")
        files = tuple(_weight_file(item, path.parent) for item in table.tables("files"))
        specs.append(build_model(table, name, files))
    index_names(specs, f"{path}: ")
    return specs


def is_model_id(text: str) -> bool:
    """Tell whether a name can be a model's: ``name`` or ``org/name``."""
    return _ID.fullmatch(text) is not None


def index_names(specs: Iterable[ModelSpec], where: str = "") -> dict[str, ModelSpec]:
    """Map every id and alias to its model.

    Args:
        specs: the models.
        where: start of the message.

    Raises:
        InvalidCatalogError: two models share a name.
    """
    names: dict[str, ModelSpec] = {}
    for spec in specs:
        for key, name in (("id", spec.id), ("alias", spec.alias)):
            if name in names:
                taken = f"{key} {name} is taken by model {names[name].id}"
                raise InvalidCatalogError(f"{where}model {spec.id}: {taken}")
            if name:
                names[name] = spec
    return names


def build_model(table: Table, id: str, files: tuple[WeightFile, ...]) -> ModelSpec:
    """Make a spec of what a table says, the id and the weights being known.

    Raises:
        InvalidCatalogError: an unknown key or a wrong value.
    """
    default, backend = ModelSpec(id="", backend="", revision=""), table.text("backend")
    tile, overlap, blend = _cuts(table, default, chosen=backend in _CHOOSING)
    spec = ModelSpec(
        id=id,
        backend=backend,
        revision="",
        alias=table.text("alias", ""),
        task=cast(Task, table.choice("task", default.task, get_args(Task))),
        description=table.text("description", ""),
        files=files,
        scale=table.integer("scale", 0, 1) if "scale" in table else None,
        tile=tile,
        overlap=overlap,
        blend=blend,
        align=table.integer("align", default.align, 1),
        params=parse_params(table.table("parameters")),
        licence=table.text("licence", default.licence),
        source=table.text("source", ""),
        options=table.scalars("options"),
        cluster=table.scalars("cluster"),
    )
    table.finish()
    _check_model(table, spec)
    return replace(spec, revision=revision_of(spec))


def _cuts(table: Table, default: ModelSpec, *, chosen: bool) -> tuple[int, int, int]:
    """Read tile, overlap and blend; AUTO for those that are left to the backend."""
    if chosen:
        lows = {"tile": 1, "overlap": 0, "blend": 0}
        tile, overlap, blend = (
            table.integer(key, 0, low) if key in table else AUTO for key, low in lows.items()
        )
        return tile, overlap, blend
    tile = table.integer("tile", default.tile, 1)
    overlap = table.integer("overlap", min(default.overlap, tile // _OVERLAP_SHARE), 0)
    return tile, overlap, table.integer("blend", min(default.blend, overlap), 0)


def user_file(role: str, path: Path, sha256: str = "") -> WeightFile:
    """Describe a weight file of the user's own.

    Raises:
        OSError: there is no such file.
    """
    size = path.stat().st_size
    return WeightFile(role=role, package="", path=str(path), sha256=sha256, size_bytes=size)


def revision_of(spec: ModelSpec) -> str:
    """Digest the weights and everything else that changes pixels.

    A file without a digest counts with its path, size and time of change, so that an edited one
    is another revision without being read.
    """
    said: Mapping[str, object] = {
        "backend": spec.backend,
        "scale": spec.scale,
        "tile": spec.tile,
        "overlap": spec.overlap,
        "blend": spec.blend,
        "align": spec.align,
        "options": dict(spec.options),
        "files": sorted([file.role, file.sha256 or _stamp(file)] for file in spec.files),
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_CHARS]


def _stamp(file: WeightFile) -> str:
    """Stand in for the digest of a file that was not read."""
    return f"{file.path}:{file.size_bytes}:{Path(file.path).stat().st_mtime_ns}"


def _weight_file(table: Table, folder: Path) -> WeightFile:
    """Read one ``[[model.files]]`` table."""
    role = table.text("role")
    package = table.text("package", "")
    path = table.text("path")
    sha256 = table.text("sha256", "").lower()
    size_bytes = table.integer("size_bytes", 0, 0)
    table.finish()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise table.wrong("sha256", "64 hex digits", sha256)
    if package:
        _check_package(table, package, path, sha256)
        return WeightFile(
            role=role, package=package, path=path, sha256=sha256, size_bytes=size_bytes
        )
    file = folder.absolute() / path
    if not file.is_file():
        raise table.wrong("path", "a file", str(file))
    return user_file(role, file, sha256)


def _check_package(table: Table, package: str, path: str, sha256: str) -> None:
    """Refuse a file that would lie outside its package, or that nothing can verify."""
    if not _PACKAGE.fullmatch(package):
        raise table.wrong("package", "the import name of a pip package", package)
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise table.wrong("path", "inside the package", path)
    if not sha256:
        raise table.error(f"{table.name('sha256')} is missing: a package's file needs one")


def _check_model(table: Table, spec: ModelSpec) -> None:
    """Refuse values that do not fit together."""
    if spec.alias and not is_model_id(spec.alias):
        raise table.wrong("alias", "a name such as my-net", spec.alias)
    if AUTO != spec.tile < spec.overlap + spec.align:
        most = spec.tile - spec.align
        raise table.wrong("overlap", f"at most the tile less align, {most}", spec.overlap)
    if AUTO != spec.overlap < spec.blend:
        raise table.wrong("blend", f"at most the overlap {spec.overlap}", spec.blend)
    if spec.tile != AUTO and spec.tile % spec.align:
        raise table.wrong("tile", f"a multiple of align {spec.align}", spec.tile)
    roles = [file.role for file in spec.files]
    if len(set(roles)) < len(roles):
        raise table.wrong("files", "one file a role", roles)
