"""From a repository of the Hub into the models folder.

Files arrive in a hidden folder, where nothing is served from, and move once all of a model are
there and right. What is whole in the hidden folder is kept from one try to the next.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from calotype.atomic import write_atomically
from calotype.catalog.choice import Choice
from calotype.catalog.diffusion import pipeline_files
from calotype.catalog.hub import RemoteFile, Repository, download, is_right
from calotype.domain.text import toml_text
from calotype.errors import MissingWeightsError

Say = Callable[[str], None]

_STAGING = ".pull"
_NEW, _OLD = "~new", "~old"
"""Ends of folders' names; no repository's name can have them."""
_WRITTEN = "# Written by `calotype pull`. Delete this line to keep what you change."
_UNITS = ((1e9, "GB", 2), (1e6, "MB", 1), (1e3, "kB", 1))
"""Bytes, name, and digits that are worth showing."""


def read(repository: Repository, file: RemoteFile, folder: Path) -> bytes:
    """Return a small file's content, fetching the file if it isn't here.

    Args:
        repository: where from.
        file: which.
        folder: the models folder.

    Raises:
        MissingWeightsError: the Hub doesn't answer, or the file isn't what the Hub says it is.
        OSError: the folder can't be written.
    """
    staging = _staging(repository, folder)
    places = (folder / repository.id / file.name, staging / file.name)
    here = _found(file, places) or download(repository, file, staging)
    return here.read_bytes()


def fetch(repository: Repository, choices: Sequence[Choice], folder: Path, say: Say) -> None:
    """Fetch models or adapters into the models folder; what is here and right is kept.

    Args:
        repository: where from.
        choices: what.
        folder: the models folder.
        say: told what happens.

    Raises:
        MissingWeightsError: the Hub doesn't answer, or a file isn't what the Hub says it is.
        OSError: the folder can't be written.
    """
    staging = _staging(repository, folder)
    for choice in choices:
        if choice.kind == "pipeline":
            _clear(staging, folder / choice.place)
    files = {path: file for choice in choices for path, file in choice.files.items()}
    found = {path: _found(f, (folder / path, staging / f.name)) for path, f in files.items()}
    here = {path: place for path, place in found.items() if place is not None}
    say(f"{repository.id}: {_total(files, here)}")
    for choice in choices:
        for path, file in choice.files.items():
            if path not in here:
                size = f" ({_amount(file.size_bytes)})" if file.size_bytes is not None else ""
                say(f"fetching {file.name}{size} of {repository.id} at {repository.commit[:12]}")
                here[path] = download(repository, file, staging)
        if choice.kind == "pipeline":
            _install(choice, here, staging, folder, say)
        else:
            _move(choice, here, folder)
        _describe(repository, choice, folder)
    shutil.rmtree(staging, ignore_errors=True)


def _staging(repository: Repository, folder: Path) -> Path:
    """Return where a repository's files arrive."""
    return folder / _STAGING / repository.id.replace("/", "--")


def _found(file: RemoteFile, places: Sequence[Path]) -> Path | None:
    """Return where a file is already."""
    right = (place for place in places if place.is_file() and is_right(place, file, known=True))
    return next(right, None)


def _move(choice: Choice, here: Mapping[str, Path], folder: Path) -> None:
    """Put files into place, all of them having arrived."""
    for path in choice.files:
        target = folder / path
        if here[path] != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(here[path], target)  # it may be another disk


def _install(
    choice: Choice, here: Mapping[str, Path], staging: Path, folder: Path, say: Say
) -> None:
    """Put a pipeline's folder into place, all of its files having arrived.

    The folder is made anew beside the old one, of links to files of both, and takes its place as
    a whole: nobody sees a part of it, and whoever reads the old files goes on with them.
    """
    place = folder / choice.place
    wanted = {(folder / path).relative_to(place).as_posix() for path in choice.files}
    stale, others = _leftovers(place, wanted)
    new = staging.with_name(staging.name + _NEW)
    shutil.rmtree(new, ignore_errors=True)  # of a pull that was interrupted
    if not stale and all(here[path] == folder / path for path in choice.files):
        return
    for path in choice.files:
        _link(here[path], new / (folder / path).relative_to(place))
    for path in others:
        _link(place / path, new / path)
    for path in stale:
        say(f"removing {path}, which is no part of this revision")
    _swap(new, place, staging.with_name(staging.name + _OLD))


def _leftovers(place: Path, wanted: set[str]) -> tuple[list[str], list[str]]:
    """Return what of a pipeline's folder is of another revision, and what isn't read at all."""
    parts = {path.relative_to(place).as_posix() for path in pipeline_files(place)}
    held = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    return sorted(parts - wanted), sorted(held - parts - wanted)


def _link(source: Path, target: Path) -> None:
    """Make one file appear in two places; a copy where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copy2(source, target)


def _swap(new: Path, place: Path, old: Path) -> None:
    """Put a folder in another's place."""
    shutil.rmtree(old, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.replace(old)
    new.replace(place)
    shutil.rmtree(old, ignore_errors=True)


def _clear(staging: Path, place: Path) -> None:
    """Make sure that a folder can be put into place.

    If a pull ended between the two steps of a swap, the old folder is taken back.
    """
    if place.is_symlink():
        raise MissingWeightsError(f"{place} is a link: remove it, so that files can go there")
    if not place.exists():
        with contextlib.suppress(FileNotFoundError):
            staging.with_name(staging.name + _OLD).replace(place)


def _total(files: Mapping[str, RemoteFile], here: Mapping[str, Path]) -> str:
    """Say how much there is, and how much of it is here."""
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    sizes = {path: file.size_bytes for path, file in files.items() if file.size_bytes is not None}
    total = sum(sizes.values())
    known = f", {_amount(total)}" if len(sizes) == len(files) else ""
    if len(here) == len(files):
        return f"{count}{known}, here already"
    held = sum(size for path, size in sizes.items() if path in here)
    # An index was read before this is said; a hundredth is not worth a word.
    part = f", of which {_amount(held)} are here already" if 100 * held > total else ""
    return f"{count}{known}{part}"


def _amount(size_bytes: int) -> str:
    """Write a size as a person would."""
    for unit, name, digits in _UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.{digits}f} {name}"
    return f"{size_bytes} bytes"


def _describe(repository: Repository, choice: Choice, folder: Path) -> None:
    """Write the licence and the origin beside a model, unless the user wrote there."""
    sidecar = folder / f"{choice.place}.toml"
    if sidecar.exists() and not sidecar.read_text(encoding="utf-8").startswith(_WRITTEN):
        return
    source = f"https://huggingface.co/{repository.id}/tree/{repository.commit}"
    said = f"licence = {toml_text(repository.licence)}\nsource = {toml_text(source)}"
    write_atomically(sidecar, f"{_WRITTEN}\n{said}\n".encode())
