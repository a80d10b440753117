"""What to take of a repository: networks, a pipeline, or an adapter."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Literal

from calotype.catalog import signature
from calotype.catalog.adapter import ADAPTERS
from calotype.catalog.checkpoint import check_pipeline, needed_files
from calotype.catalog.diffusion import PICKLES, WEIGHTS, read_index
from calotype.catalog.hub import RemoteFile, Repository
from calotype.catalog.schema import is_model_id
from calotype.catalog.tensors import SUFFIXES
from calotype.domain.diffusion import INDEX
from calotype.errors import InvalidCatalogError, MissingExtraError, MissingWeightsError

Kind = Literal["network", "pipeline", "adapter"]
Files = Mapping[str, RemoteFile]
"""Files by their paths."""

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls an adapter."""
ADAPTER_TAG = "lora"

OPENED = (".onnx", ".param with .bin", *SUFFIXES, "pipeline of diffusers")
"""What can be served, for messages."""

_EXTERNAL = ("_data", ".data")
"""ONNX files above 2 GB keep their weights in a second file, named so."""
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model or adapter of a repository."""

    kind: Kind
    id: str
    files: Files
    """By the path that each gets in the models folder; an adapter's may lead elsewhere."""

    @property
    def place(self) -> str:
        """Its path in the models folder, without a suffix."""
        file = next(iter(self.files))
        return file.removesuffix(WEIGHTS) if self.kind == "adapter" else self.id


def choose(
    repository: Repository,
    read: Callable[[RemoteFile], bytes],
    pattern: str = "",
    *,
    lora: bool = False,
    adapters_dir: str = ADAPTERS,
) -> tuple[Choice, ...]:
    """Pick what can be served, and name it.

    A repository with a ``model_index.json`` is a pipeline, unless a pattern says otherwise.

    Args:
        repository: where from.
        read: returns a small file's content.
        pattern: take only networks or adapters whose file's name matches, e.g. ``*x4*``.
        lora: take an adapter, whatever else there is.
        adapters_dir: where adapters go: absolute, or inside the models folder.

    Raises:
        MissingExtraError: it is a pipeline, and diffusers isn't installed.
        MissingWeightsError: there is nothing that can be served, or no telling which of several.
    """
    named = {file.name: file for file in repository.files}
    adapters = _adapters(repository, named, pattern, lora=lora)
    choices: tuple[Choice, ...]
    if lora or (adapters and INDEX not in named):
        found = _adapter_file(repository, named, adapters, pattern)
        target = f"{adapters_dir}/{repository.id}{WEIGHTS}"
        choices = (Choice(kind="adapter", id=repository.id, files={target: named[found]}),)
    elif INDEX in named and not pattern:
        choices = (_pipeline(repository, named, read),)
    else:
        choices = _networks(repository, named, pattern)
    for choice in choices:
        if not is_model_id(choice.id):
            raise MissingWeightsError(f"{choice.id} cannot be a model's name")
    return choices


def _pipeline(repository: Repository, named: Files, read: Callable[[RemoteFile], bytes]) -> Choice:
    """Read the index, and pick what the pipeline is run from."""
    if not signature.installed():
        raise MissingExtraError(
            f"{repository.id} is a pipeline, which needs diffusers:"
            " pip install 'calotype[diffusers]'"
        )
    try:
        index = read_index(read(named[INDEX]))
        check_pipeline(index)
        needed = needed_files(index, named)
    except InvalidCatalogError as error:
        raise MissingWeightsError(f"{repository.id} can't be served: {error}") from error
    files = {f"{repository.id}/{name}": named[name] for name in needed}
    return Choice(kind="pipeline", id=repository.id, files=files)


def _adapters(repository: Repository, named: Files, pattern: str, *, lora: bool) -> list[str]:
    """Find the files that are adapters, or that are said to be."""
    found = [name for name in sorted(named) if name.endswith(WEIGHTS) and _matches(name, pattern)]
    if ADAPTER_FILE in found and not pattern:
        return [ADAPTER_FILE]
    if lora or ADAPTER_FILE in found:
        return found
    return [name for name in found if "/" not in name] if ADAPTER_TAG in repository.tags else []


def _adapter_file(repository: Repository, named: Files, found: list[str], pattern: str) -> str:
    """Return the name of the one file that is the adapter."""
    if len(found) > 1:
        raise MissingWeightsError(
            f"{repository.id} holds several adapters, of which --file chooses one:"
            f" {_names(found, 20)}"
        )
    if not found:
        raise MissingWeightsError(_no_adapter(repository.id, named, pattern))
    return found[0]


def _networks(repository: Repository, named: Files, pattern: str) -> tuple[Choice, ...]:
    """Pick networks.

    A repository's only network is called like the repository; of several, each adds its file's
    name: ``acme/nets`` with ``x2.onnx`` and ``x4.onnx`` makes ``acme/nets-x2`` and
    ``acme/nets-x4``.
    """
    found: dict[str, dict[str, RemoteFile]] = {}
    for name in sorted(named, key=_preference):
        if _matches(name, pattern) and (parts := _parts(named, name)):
            found.setdefault(str(PurePosixPath(name).with_suffix("")), parts)
    if not found:
        raise MissingWeightsError(_nothing(repository.id, named, pattern))
    choices = []
    for stem, parts in found.items():
        own = repository.id if len(found) == 1 else f"{repository.id}-{_ODD.sub('-', stem)}"
        files = {f"{own}{suffix}": file for suffix, file in parts.items()}
        choices.append(Choice(kind="network", id=own, files=files))
    return tuple(choices)


def _preference(name: str) -> tuple[str, int]:
    """Sort files of one stem by what opens them: what needs no PyTorch first, pickles last."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    order = (".onnx", ".param", *SUFFIXES)
    return str(path.with_suffix("")), order.index(suffix) if suffix in order else len(order)


def _parts(named: Files, name: str) -> dict[str, RemoteFile]:
    """Return the files of a network by suffix, one of them being named; empty for no network."""
    suffix = PurePosixPath(name).suffix.lower()
    weights = str(PurePosixPath(name).with_suffix(".bin"))
    if suffix == ".onnx" and any(name + end in named for end in _EXTERNAL):
        return {}
    if suffix == ".param":
        return {suffix: named[name], ".bin": named[weights]} if weights in named else {}
    return {suffix: named[name]} if suffix in (".onnx", *SUFFIXES) else {}


def _matches(name: str, pattern: str) -> bool:
    """Tell whether a file is meant by a pattern for its path or for its name."""
    base = name.rpartition("/")[2]
    return not pattern or fnmatchcase(name, pattern) or fnmatchcase(base, pattern)


def _no_adapter(repo: str, named: Files, pattern: str) -> str:
    """Say why a repository has no adapter."""
    if pattern:
        return f"no {WEIGHTS} in {repo} matches {pattern}; it holds {_names(named)}"
    if any(name.endswith(PICKLES) for name in named):
        return f"{repo} holds no {WEIGHTS} but pickles, which can carry code: save it as {WEIGHTS}"
    return f"{repo} holds no {WEIGHTS}; it holds {_names(named)}"


def _nothing(repo: str, named: Files, pattern: str) -> str:
    """Say why nothing of a repository can be served."""
    opened = " or ".join(OPENED)
    if pattern:
        return (
            f"no {' or '.join(OPENED[:-1])} in {repo} matches {pattern}; it holds {_names(named)}"
        )
    if any(name.lower().endswith(".onnx") for name in named):
        return f"{repo} holds ONNX networks with external data only, which aren't supported yet"
    return f"{repo} holds no {opened}; it holds {_names(named)}"


def _names(names: Mapping[str, object] | list[str], shown: int = 5) -> str:
    """List a few files."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return (", ".join(ordered[:shown]) + more) or "nothing"
