"""What servers that are processes of their own are made of: the package, with a test's models."""

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from calotype.catalog.schema import load_catalog_file
from calotype.domain.model import AUTO, ModelSpec, ParamSpec, WeightFile
from calotype.errors import InvalidCatalogError

OTHER = frozenset({"backends", "catalog", "fake.py", "models.toml", "__pycache__"})
"""Names in the package that are others in the view that live servers have of it."""
GATE = """

class _Gate:
    folder = Path({folder!r})
    sleeping = time.sleep

    @classmethod
    def sleep(cls, seconds: float) -> None:
        if not seconds or not cls.folder.exists():
            cls.sleeping(seconds)
            return
        (cls.folder / "reached").touch()
        while cls.folder.exists() and not (cls.folder / "opened").exists():
            cls.sleeping(0.005)


time = _Gate
"""
"""What is added to the fake models of live servers: where a test has a gate, they wait there."""


def write_catalog(path: Path, specs: Sequence[ModelSpec]) -> None:
    """Write a file that gives these very models; revisions are the file's own.

    Raises:
        InvalidCatalogError: no file can.
    """
    path.write_text("\n".join(f"[[model]]\n{_model(spec)}" for spec in specs), encoding="utf-8")
    if _bare(load_catalog_file(path)) != _bare(specs):
        raise InvalidCatalogError("a catalog file says something else of these models")


def _bare(specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    return [replace(spec, revision="") for spec in specs]


def _model(spec: ModelSpec) -> str:
    """Write what is in one model's table."""
    known = asdict(spec)
    cuts = {key: known[key] for key in ("tile", "overlap", "blend") if known[key] != AUTO}
    names = ("id", "backend", "alias", "task", "description", "align", "licence", "source")
    said = {
        **{key: known[key] for key in names},
        **cuts,
        "parameters": {param.name: _param(param) for param in spec.params},
        "options": spec.options,
        "files": [_file(file) for file in spec.files],
        **({} if spec.scale is None else {"scale": spec.scale}),
    }
    return "".join(f"{key} = {_toml(value)}\n" for key, value in said.items())


def _param(param: ParamSpec) -> dict[str, object]:
    said = {key: value for key, value in asdict(param).items() if value is not None}
    del said["name"]
    return said if param.choices else {k: v for k, v in said.items() if k != "choices"}


def _file(file: WeightFile) -> dict[str, object]:
    return {key: value for key, value in asdict(file).items() if value}


def _toml(value: object) -> str:
    """Write a value on one line; numbers, strings and booleans are as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def package_with(folder: Path, specs: Sequence[ModelSpec]) -> Path:
    """Make a view of the package whose embedded models are these; return what to import it from.

    A catalog file can only add to the models that come along, and tests give theirs the same names.
    """
    found = importlib.util.find_spec("calotype")
    assert found is not None
    assert found.origin is not None
    real, view = Path(found.origin).parent, folder / "calotype"
    for part in ("", "backends", "catalog"):
        (view / part).mkdir(parents=True)
        for path in (real / part).iterdir():
            if path.name not in OTHER:
                (view / part / path.name).symlink_to(path)
    fake, gate = (real / "backends" / "fake.py").read_text(), str(folder.parent / "gate")
    (view / "backends" / "fake.py").write_text(fake + GATE.format(folder=gate))
    write_catalog(view / "catalog" / "models.toml", specs)
    return folder
