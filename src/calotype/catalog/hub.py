"""Fetching networks from the Hugging Face Hub, or whatever ``HF_ENDPOINT`` names.

All of the transport is ``huggingface_hub``'s: tokens, mirrors, proxies, resuming.
"""

import contextlib
import hashlib
import importlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from calotype.catalog.schema import is_model_id
from calotype.domain.text import toml_text
from calotype.errors import (
    CalotypeError,
    ForbiddenError,
    MissingExtraError,
    MissingWeightsError,
    UnknownModelError,
)

OPENED = (".onnx", ".param with .bin")
"""What this release can serve, for messages."""

LATER: Mapping[str, str] = {
    ".safetensors": "safetensors",
    ".pth": "PyTorch",
    ".pt": "PyTorch",
    ".ckpt": "PyTorch",
}
"""What a later release will serve."""

_EXTERNAL = ("_data", ".data")
"""ONNX files above 2 GB keep their weights in a second file, named so."""
_WRITTEN = "# Written by `calotype pull`. Delete this line to keep what you change."
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_READ_BYTES = 1 << 20
_HIDDEN = (401, 403, 404)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a repository."""

    name: str
    size_bytes: int | None = None
    sha256: str = ""
    """Of a large file."""
    git_sha1: str = ""
    """Of a small file: git's own digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One model in a repository: a network's files, by the suffix they get here."""

    id: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What a repository holds at one commit."""

    id: str
    commit: str
    licence: str
    networks: tuple[Network, ...]


def look_up(repo: str, revision: str = "", pattern: str = "") -> Repository:
    """Ask the Hub what a repository holds.

    Args:
        repo: ``org/name``.
        revision: branch, tag or commit; empty: the main branch.
        pattern: take only networks whose file's name matches, e.g. ``*x4*``.

    Raises:
        MissingExtraError: ``huggingface_hub`` isn't installed.
        UnknownModelError: there is no such repository or revision.
        ForbiddenError: it is gated, and the token doesn't open it.
        MissingWeightsError: it holds nothing that can be served, or the Hub doesn't answer.
    """
    hub = _hub()
    with _translated(repo, revision or "main"):
        info = hub.HfApi().model_info(repo, revision=revision or None, files_metadata=True)
    card = info.card_data or {}
    licence = card.get("license") if hasattr(card, "get") else None
    return Repository(
        id=repo,
        commit=str(info.sha),
        licence=licence if isinstance(licence, str) else "unknown",
        networks=choose(repo, [_remote(sibling) for sibling in info.siblings or ()], pattern),
    )


def choose(repo: str, files: list[RemoteFile], pattern: str = "") -> tuple[Network, ...]:
    """Pick the networks that can be served, and name them.

    A repository's only network is called like the repository; of several, each adds its file's
    name: ``acme/nets`` with ``x2.onnx`` and ``x4.onnx`` makes ``acme/nets-x2`` and
    ``acme/nets-x4``.

    Raises:
        MissingWeightsError: there is none.
    """
    named = {file.name: file for file in files}
    found: dict[str, dict[str, RemoteFile]] = {}
    for name, file in sorted(named.items()):
        path = PurePosixPath(name)
        stem = str(path.with_suffix(""))
        if pattern and not (fnmatchcase(name, pattern) or fnmatchcase(path.name, pattern)):
            continue
        match path.suffix.lower():
            case ".onnx" if not any(name + end in named for end in _EXTERNAL):
                found[stem] = {".onnx": file}
            case ".param" if f"{stem}.bin" in named:
                found.setdefault(stem, {".param": file, ".bin": named[f"{stem}.bin"]})
            case _:
                pass
    if not found:
        raise MissingWeightsError(_nothing(repo, named, pattern))
    single = len(found) == 1
    return tuple(
        Network(id=repo if single else f"{repo}-{_ODD.sub('-', stem)}", files=parts)
        for stem, parts in found.items()
    )


def fetch(
    repository: Repository, network: Network, folder: Path, say: Callable[[str], None]
) -> list[Path]:
    """Fetch one network into the models folder; what was fetched before is kept, or resumed.

    Args:
        repository: where from.
        network: what.
        folder: the models folder.
        say: told what happens.

    Raises:
        MissingWeightsError: the Hub doesn't answer, or a file isn't what the Hub says it is.
        OSError: the folder can't be written.
    """
    hub = _hub()
    if not is_model_id(network.id):
        raise MissingWeightsError(f"{network.id} cannot be a model's name")
    staging = folder / ".pull" / repository.id.replace("/", "--")
    written = []
    for suffix, file in network.files.items():
        target = folder / f"{network.id}{suffix}"
        written.append(target)
        if target.is_file() and _is_right(target, file, known=True):
            say(f"{file.name} is here already")
            continue
        say(f"fetching {file.name} of {repository.id} at {repository.commit[:12]}")
        with _translated(repository.id, repository.commit):
            part = hub.hf_hub_download(
                repository.id, file.name, revision=repository.commit, local_dir=staging
            )
        if not _is_right(Path(part), file):
            Path(part).unlink()
            raise MissingWeightsError(
                f"{file.name} did not arrive as the Hub describes it: run the command again"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(part).replace(target)
    _describe(repository, network, folder)
    shutil.rmtree(staging, ignore_errors=True)
    return written


def hide_bars() -> None:
    """Keep progress bars off what is no terminal.

    Raises:
        MissingExtraError: ``huggingface_hub`` isn't installed.
    """
    _hub()
    importlib.import_module("huggingface_hub.utils").disable_progress_bars()


def _hub() -> Any:  # noqa: ANN401  a module, imported only by those who have it
    """Import the library."""
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "models of the Hub need huggingface_hub: pip install 'calotype[hub]'"
        ) from error


@contextlib.contextmanager
def _translated(repo: str, revision: str) -> Iterator[None]:
    """Say in our words what went wrong."""
    errors = importlib.import_module("huggingface_hub.errors")
    where = importlib.import_module("huggingface_hub.constants").ENDPOINT
    gated = f"{repo} is gated: accept its terms on {where}/{repo}, and set HF_TOKEN to your token"
    absent = f"there is no model {repo} at {where}, or HF_TOKEN may not see it"
    kinds: tuple[tuple[type[Exception], type[CalotypeError], str], ...] = (
        (errors.GatedRepoError, ForbiddenError, gated),
        (errors.RepositoryNotFoundError, UnknownModelError, absent),
        (errors.RevisionNotFoundError, UnknownModelError, f"{repo} has no revision {revision}"),
        (errors.HFValidationError, UnknownModelError, f"{repo} is no name of a model on the Hub"),
        (errors.OfflineModeIsEnabled, MissingWeightsError, f"HF_HUB_OFFLINE keeps {repo} away"),
    )
    try:
        yield
    except Exception as error:  # the library's transport has changed twice, its errors with it
        for kind, ours, text in kinds:
            if isinstance(error, kind):
                raise ours(text) from error
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            raise  # the disk's
        # A mirror answers without the codes by which the real one says what it means.
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _HIDDEN:
            raise UnknownModelError(absent) from error
        reason = f"answered {status}" if status else "can't be reached"
        raise MissingWeightsError(f"{where} {reason}; try again later") from error


def _remote(sibling: Any) -> RemoteFile:  # noqa: ANN401  huggingface_hub's RepoSibling
    lfs = sibling.lfs
    return RemoteFile(
        name=sibling.rfilename,
        size_bytes=sibling.size,
        sha256=str(lfs.sha256) if lfs else "",
        git_sha1="" if lfs else (sibling.blob_id or ""),
    )


def _is_right(path: Path, file: RemoteFile, *, known: bool = False) -> bool:
    """Compare a file with what the Hub says of it.

    Args:
        path: the file here.
        file: the file there.
        known: answer no where the Hub names no digest.

    Source: git's blob digest is SHA-1 of ``blob SIZE``, a zero byte, and the content.
    """
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        return False
    if file.sha256:
        return _digest(path, hashlib.sha256()) == file.sha256
    if file.git_sha1:
        start = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return _digest(path, start) == file.git_sha1
    return not known


def _digest(path: Path, state: "hashlib._Hash") -> str:
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            state.update(chunk)
    return state.hexdigest()


def _nothing(repo: str, named: Mapping[str, RemoteFile], pattern: str) -> str:
    """Say why nothing of a repository can be served."""
    held = {PurePosixPath(name).suffix.lower() for name in named}
    opened = " or ".join(OPENED)
    if pattern:
        return f"no {opened} in {repo} matches {pattern}; it holds {_names(named)}"
    if any(name.lower().endswith(".onnx") for name in named):
        return f"{repo} holds ONNX networks with external data only, which aren't supported yet"
    if later := sorted({LATER[suffix] for suffix in held if suffix in LATER}):
        return (
            f"{repo} holds {' and '.join(later)} weights only, which a later release will open;"
            f" this one opens {opened}"
        )
    return f"{repo} holds no {opened}; it holds {_names(named)}"


def _names(named: Mapping[str, RemoteFile], shown: int = 5) -> str:
    """List a few files."""
    names = sorted(named)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) + more) or "nothing"


def _describe(repository: Repository, network: Network, folder: Path) -> None:
    """Write the licence and the origin beside a network, unless the user wrote there."""
    sidecar = folder / f"{network.id}.toml"
    if sidecar.exists() and not sidecar.read_text(encoding="utf-8").startswith(_WRITTEN):
        return
    source = f"https://huggingface.co/{repository.id}/tree/{repository.commit}"
    said = f"licence = {toml_text(repository.licence)}\nsource = {toml_text(source)}"
    sidecar.write_text(f"{_WRITTEN}\n{said}\n", encoding="utf-8")
