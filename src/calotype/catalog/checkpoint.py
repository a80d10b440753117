"""The files of a repository that a pipeline is run from, and no others.

Most repositories hold the same weights several times: halved and whole, as pickles, for other
programs, as one file.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from calotype.catalog.diffusion import (
    PICKLES,
    WEIGHTS,
    check_call,
    check_components,
    image_class,
)
from calotype.domain.diffusion import INDEX, components
from calotype.errors import InvalidCatalogError

HALF = "fp16"
"""The variant that is taken where there is one: half of the bytes."""
STEMS = frozenset({"diffusion_pytorch_model", "model"})
"""What the libraries call weights."""
PLAIN = (".json", ".txt", ".model", ".jinja")
"""Suffixes of configurations and vocabularies."""
FOREIGN = (".h5", ".msgpack", ".onnx", ".pb")
"""Suffixes of weights for other programs."""

_SHOWN = 3
_HINT = "; ask its authors for it, or pull a revision that has it, as in ORG/NAME@refs/pr/1"
_SHARD = r"(?P<shard>-\d+-of-\d+)"
_NAMES = (
    re.compile(rf"(?P<stem>[^.]+?){_SHARD}\.(?P<variant>[^.]+)\.safetensors"),
    re.compile(rf"(?P<stem>[^.]+?)(\.(?P<variant>[^.]+?))?{_SHARD}?\.safetensors"),
    re.compile(r"(?P<stem>[^.]+)\.(?P<index>safetensors\.index)(\.(?P<variant>[^.]+))?\.json"),
    re.compile(r"(?P<stem>[^.]+)\.(?P<variant>[^.]+)\.(?P<index>safetensors\.index)\.json"),
)
"""``stem.variant-00001-of-00002.safetensors`` and ``stem.safetensors.index.variant.json``.

Source: ``_add_variant`` of diffusers and of transformers, and the older order of the same words.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """One file's name, read."""

    name: str
    stem: str
    variant: str
    is_shard: bool
    is_index: bool


def check_pipeline(index: Mapping[str, object]) -> None:
    """Refuse a pipeline that can't be served, by its index alone.

    Raises:
        InvalidCatalogError: its class takes no picture, or a part of it needs code of its own.
    """
    check_components(index)
    check_call(image_class(index))


def needed_files(index: Mapping[str, object], names: Iterable[str]) -> list[str]:
    """Choose the files that a pipeline is run from.

    Args:
        index: of the pipeline.
        names: paths of all files of the repository.

    Raises:
        InvalidCatalogError: a part has no weights that can be opened, or isn't there.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, rest = name.rpartition("/")
        if not rest.startswith("."):
            folders.setdefault(folder, []).append(rest)
    needed = [INDEX]
    for part, _, _ in components(index):
        held = folders.get(part, [])
        if not part.isidentifier() or not held:
            raise InvalidCatalogError(f"its {part} isn't in the repository")
        weights = choose_weights(held)
        if not weights:
            _check_weightless(part, held)
        needed += [f"{part}/{name}" for name in sorted({*weights, *_plain(held)})]
    return needed


def choose_weights(names: Collection[str]) -> list[str]:
    """Choose the weights of one part: halved before whole, one file before several.

    Args:
        names: of all files in the part's folder.

    Returns:
        The names of one set of weights; none where there is no whole one.
    """
    read = [weights for name in names if (weights := _read(name)) is not None]
    usual = [weights for weights in read if weights.stem in STEMS]
    for variant in (HALF, ""):
        found = [weights for weights in usual or read if weights.variant == variant]
        single = [w.name for w in found if not w.is_shard and not w.is_index]
        if single:
            return single
        if any(w.is_shard for w in found) and any(w.is_index for w in found):
            return [w.name for w in found]
    return []


def _read(name: str) -> _Weights | None:
    """Read a file's name; None: these are no weights."""
    match = next((found for pattern in _NAMES if (found := pattern.fullmatch(name))), None)
    if match is None:
        return None
    said = match.groupdict()
    return _Weights(
        name=name,
        stem=said["stem"],
        variant=said["variant"] or "",
        is_shard=said.get("shard") is not None,
        is_index=said.get("index") is not None,
    )


def _plain(names: Iterable[str]) -> list[str]:
    """Choose configurations and vocabularies; indexes belong to weights."""
    return [name for name in names if name.endswith(PLAIN) and ".index." not in name]


def _check_weightless(part: str, names: Collection[str]) -> None:
    """Refuse a part without weights for us, unless it is one that has none at all."""
    suffixes = {PurePosixPath(name).suffix for name in names}
    if WEIGHTS in suffixes:
        others = sorted(name for name in names if name.endswith(WEIGHTS))
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise InvalidCatalogError(f"its {part} has neither plain nor {HALF} weights, but {shown}")
    if suffixes & set(PICKLES):
        raise InvalidCatalogError(
            f"its {part} has pickled weights only, which can carry code, and no {WEIGHTS}{_HINT}"
        )
    if suffixes & set(FOREIGN):
        raise InvalidCatalogError(
            f"its {part} has weights for other programs only, and no {WEIGHTS}{_HINT}"
        )
