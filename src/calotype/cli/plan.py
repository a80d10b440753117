"""What ``calotype run`` reads and writes, all of it decided before anything runs."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from calotype.domain.request import ImageFormat

SUFFIX_FORMATS: dict[str, ImageFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}
"""Suffixes of files that are written."""

INPUT_SUFFIXES = frozenset({*SUFFIX_FORMATS, ".gif", ".tif", ".tiff", ".avif"})
"""Suffixes of files that are taken from a folder."""

STREAM = "-"
"""Standard input, or standard output."""

_MAGIC = frozenset("*?[")
_WRITTEN = ", ".join(SUFFIX_FORMATS)


@dataclass(frozen=True, slots=True)
class Found:
    """One input, and its place below the folder or pattern that it was found with."""

    path: Path | None
    """None: standard input."""
    place: Path
    """Relative; the same below the output folder."""
    root: Path | None = None
    """The folder that was named on the command line, if that is how it was found."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One picture to read and one to write."""

    source: Path | None
    """None: standard input."""
    target: Path | None
    """None: standard output."""
    format: ImageFormat | None
    """None: the input's own."""

    @property
    def is_done(self) -> bool:
        """Whether the target is there already, made after the source last changed.

        Files are written whole or not at all, so one that exists is complete.
        """
        if self.source is None or self.target is None or not self.target.is_file():
            return False
        return self.target.stat().st_mtime_ns >= self.source.stat().st_mtime_ns


def make_plan(
    inputs: tuple[str, ...], output: str | None, format: ImageFormat | None, model: str
) -> list[Errand]:
    """Decide what is read and what is written.

    Args:
        inputs: files, folders, patterns, or ``-``.
        output: a file, a folder, ``-``, or None for beside the input.
        format: of the results; None: by the suffix of the output, else of the input.
        model: its alias or id, for names.

    Returns:
        At least one; no two write the same file, and none writes over an input.

    Raises:
        click.UsageError: an input isn't there, or the inputs and the output don't go together.
    """
    outside = Path(output) if output not in (None, STREAM) else None
    found = list(_unique(item for text in inputs for item in _find(text, outside)))
    if not found:
        raise click.UsageError(f"no pictures in {', '.join(inputs)}")
    if len(found) > 1 and (output == STREAM or any(item.path is None for item in found)):
        raise click.UsageError("standard input and output take one picture")
    model = model.replace("/", "-")
    if output == STREAM or (output is None and found[0].path is None):
        return [Errand(found[0].path, None, format)]
    if outside is None:
        errands = [_beside(item, format, model) for item in found]
        results = {_real(errand.target) for errand in errands}
        # A second run over the same folder meets the results of the first: they are no inputs.
        errands = [errand for errand in errands if _real(errand.source) not in results]
    elif _is_file(inputs, found, outside):
        errands = [_into_file(found[0], outside, format)]
    else:
        errands = [_into_folder(item, outside, format) for item in found]
    _check(errands)
    return errands


def _find(text: str, outside: Path | None) -> Iterator[Found]:
    """Find what one argument names; pictures below ``outside`` are results, not inputs."""
    path = Path(text)
    if text == STREAM:
        yield Found(None, Path("stdin.png"))
    elif path.is_dir():
        for picture in _pictures(path, outside):
            yield Found(picture, picture.relative_to(path), path)
    elif path.exists():
        yield Found(path, Path(path.name))
    elif _MAGIC & set(text):
        yield from _matches(text)
    else:
        raise click.UsageError(f"there is no file or folder {text}")


def _matches(pattern: str) -> Iterator[Found]:
    """Find what a pattern matches, placed below the part of it that has no wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if _MAGIC & set(part):
            break
        fixed.append(part)
    names = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207  Path.glob takes no absolute pattern
    files = [name for name in names if name.is_file()]
    if not files:
        raise click.UsageError(f"no file matches {pattern}")
    for file in files:
        yield Found(file, file.relative_to(Path(*fixed)) if fixed else file)


def _pictures(folder: Path, outside: Path | None) -> Iterator[Path]:
    """Yield the pictures below a folder in a fixed order, hidden ones left out."""
    shut = outside.resolve() if outside else None
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(parent, name).resolve() != shut
        )
        for name in sorted(names):
            if Path(name).suffix.lower() in INPUT_SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _unique(found: Iterable[Found]) -> Iterator[Found]:
    """Leave out files that were named twice."""
    seen = set()
    for item in found:
        key = _real(item.path)
        if key not in seen:
            seen.add(key)
            yield item


def _is_file(inputs: tuple[str, ...], found: list[Found], output: Path) -> bool:
    """Tell whether ``-o`` names a file: one input named as such, and a suffix."""
    folder = output.is_dir() or str(output) != os.path.normpath(output) or not output.suffix
    single = len(inputs) == 1 and (found[0].path is None or str(found[0].path) == inputs[0])
    if single and not folder:
        return True
    if output.is_file():
        raise click.UsageError(f"{output} is a file; several pictures need a folder to go to")
    if found[0].path is None:
        raise click.UsageError(f"name a file for the result, such as {output / 'result.png'}")
    return False


def _into_file(item: Found, output: Path, format: ImageFormat | None) -> Errand:
    """Write to a file whose suffix says its format."""
    suffix = output.suffix.lower()
    said = SUFFIX_FORMATS.get(suffix)
    if said is None:
        raise click.UsageError(
            f"the output's suffix must be one of {_WRITTEN}, got {suffix};"
            f" a folder ends with a slash: {output}/"
        )
    if format not in (None, said):
        raise click.UsageError(f"--format {format} and the output's suffix {suffix} disagree")
    return Errand(item.path, output, said)


def _into_folder(item: Found, output: Path, format: ImageFormat | None) -> Errand:
    """Write below a folder, at the place that the input has below its own."""
    target = output / _renamed(item.place, format)
    return Errand(item.path, target, SUFFIX_FORMATS[target.suffix.lower()])


def _beside(item: Found, format: ImageFormat | None, model: str) -> Errand:
    """Write beside the input, or into a folder beside the folder that was named."""
    if item.path is None:
        raise click.UsageError("standard input and output take one picture")
    if item.root is not None:
        root = item.root.resolve()
        beside = item.root.parent if item.root.name not in ("", "..") else root.parent
        return _into_folder(item, beside / f"{root.name}_{model}", format)
    target = _renamed(item.path, format)
    target = target.with_name(f"{target.stem}_{model}{target.suffix}")
    return Errand(item.path, target, SUFFIX_FORMATS[target.suffix.lower()])


def _renamed(path: Path, format: ImageFormat | None) -> Path:
    """Give a name the suffix of the format that is written; one that fits stays as it is."""
    own = SUFFIX_FORMATS.get(path.suffix.lower())
    wanted = format or own or "png"
    if own == wanted:
        return path
    return path.with_name(f"{path.stem}.{'jpg' if wanted == 'jpeg' else wanted}")


def _check(errands: list[Errand]) -> None:
    """Refuse two pictures that would become one file, and a result on top of an input."""
    inputs = {_real(errand.source) for errand in errands}
    taken: dict[Path | None, Path | None] = {}
    for errand in errands:
        target = _real(errand.target)
        if target in inputs:
            raise click.UsageError(f"{errand.target} is an input and would be written over")
        if target in taken:
            raise click.UsageError(
                f"{taken[target]} and {errand.source} would both become {errand.target};"
                " run them into different folders"
            )
        taken[target] = errand.source


def _real(path: Path | None) -> Path | None:
    """Return a path that equal files share."""
    return path.resolve() if path is not None else None
