"""Files of the Hugging Face Hub, or of whatever ``HF_ENDPOINT`` names.

All of the transport is ``huggingface_hub``'s: tokens, mirrors, proxies, broken connections. A
connection that breaks is made again and goes on in the middle of a file. A program that ends does
not: the library begins such a file anew, so what survives of an interrupted program is whole files.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.errors import (
    CalotypeError,
    ForbiddenError,
    MissingExtraError,
    MissingWeightsError,
    UnknownModelError,
)

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
class Repository:
    """What a repository holds at one commit."""

    id: str
    commit: str
    licence: str = "unknown"
    tags: frozenset[str] = frozenset()
    files: tuple[RemoteFile, ...] = ()


def look_up(repo: str, revision: str = "") -> Repository:
    """Ask the Hub what a repository holds.

    Args:
        repo: ``org/name``.
        revision: branch, tag or commit; empty: the main branch.

    Raises:
        MissingExtraError: ``huggingface_hub`` isn't installed.
        UnknownModelError: there is no such repository or revision.
        ForbiddenError: it is gated, and the token doesn't open it.
        MissingWeightsError: the Hub doesn't answer.
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
        tags=frozenset(info.tags or ()),
        files=tuple(_remote(sibling) for sibling in info.siblings or ()),
    )


def download(repository: Repository, file: RemoteFile, folder: Path) -> Path:
    """Fetch one file of a repository, at its commit, and compare it with its digest.

    Args:
        repository: where from.
        file: which.
        folder: gets the file at the path that it has in the repository.

    Returns:
        The file here.

    Raises:
        ForbiddenError: the repository is gated, and the token doesn't open it.
        MissingWeightsError: the Hub doesn't answer, or the file isn't what the Hub says it is.
        OSError: the folder can't be written.
    """
    hub, left = _hub(), folder / file.name
    if left.is_file() and not is_right(left, file):
        left.unlink()  # of another revision; the library takes it where the Hub is silent
    with _translated(repository.id, repository.commit):
        found = hub.hf_hub_download(
            repository.id, file.name, revision=repository.commit, local_dir=folder
        )
    path = Path(found)
    if not is_right(path, file):
        path.unlink()
        raise MissingWeightsError(
            f"{file.name} did not arrive as the Hub describes it: run the command again"
        )
    return path


def is_right(path: Path, file: RemoteFile, *, known: bool = False) -> bool:
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


def _digest(path: Path, state: "hashlib._Hash") -> str:
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            state.update(chunk)
    return state.hexdigest()
