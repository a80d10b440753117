"""Adapters: from files in many dialects to what is added to each weight."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calotype.backends.diffusion.adapter import Deltas
from calotype.domain.request import Loras
from calotype.errors import InvalidParameterError

SUFFIX = ".safetensors"
UP, DOWN = "lora_B", "lora_A"
KEPT_FILES = 4
"""Adapters whose content stays in memory."""
_SHOWN = 20

Pairs = dict[str, tuple[Tensor, Tensor, float]]
"""Weight -> (up, down, what the product is multiplied with)."""


class Adapters:
    """Finds adapters and works out what they add.

    Args:
        pipe: the pipeline, which knows the dialects.
        parts: its networks by the prefix of their weights in files.
        folder: where the files are; None: nowhere.
    """

    def __init__(self, pipe: Any, parts: Mapping[str, nn.Module], folder: Path | None) -> None:
        self._pipe, self._folder = pipe, folder
        self._weights = {
            part: {name for name, _ in module.named_parameters()} for part, module in parts.items()
        }
        self._read: OrderedDict[tuple[str, int], dict[str, Pairs]] = OrderedDict()

    def deltas(self, loras: Loras) -> tuple[str, dict[str, Deltas]]:
        """Return what adapters add.

        Returns:
            A name that is equal only for equal additions, and by network what is added to it.

        Raises:
            InvalidParameterError: there is no such adapter, or it isn't one for this model.
        """
        name = hashlib.blake2b(digest_size=16)
        sums: dict[str, dict[str, Tensor]] = {}
        for adapter, scale in loras.scales:
            path = self._find(adapter)
            stamp = path.stat().st_mtime_ns
            name.update(f"{adapter} {stamp} {scale}\n".encode())
            for part, pairs in self._pairs(adapter, path, stamp).items():
                total = sums.setdefault(part, {})
                for weight, (up, down, factor) in pairs.items():
                    delta = product(up, down) * (factor * scale)
                    total[weight] = total[weight] + delta if weight in total else delta
        return name.hexdigest() if sums else "", dict(sums)

    def _find(self, id: str) -> Path:
        """Find an adapter's file; the id was checked to be no path out of the folder."""
        found = self._folder / f"{id}{SUFFIX}" if self._folder else None
        if found is not None and found.is_file():
            return found
        there = ", ".join(self._names()) or "none"
        raise InvalidParameterError(
            f"loras: there is no adapter {id} on this server; there are: {there}. `calotype pull"
            f" {id}` may fetch it"
        )

    def _names(self) -> Iterator[str]:
        """Yield the ids of a few adapters that are there."""
        files = sorted(self._folder.rglob(f"*{SUFFIX}")) if self._folder else []
        for path in files[:_SHOWN]:
            assert self._folder is not None  # noqa: S101  there are files
            yield path.relative_to(self._folder).as_posix().removesuffix(SUFFIX)

    def _pairs(self, id: str, path: Path, stamp: int) -> dict[str, Pairs]:
        """Read a file, or remember what was read."""
        key = (id, stamp)
        if key not in self._read:
            try:
                state, *told = self._pipe.lora_state_dict(
                    str(path.parent),
                    weight_name=path.name,
                    local_files_only=True,
                    use_safetensors=True,
                    unet_config=getattr(getattr(self._pipe, "unet", None), "config", None),
                    return_alphas=True,
                    return_lora_metadata=True,
                )
                self._read[key] = self._sorted(id, plain(state), _alphas(tuple(told)))
            except InvalidParameterError:
                raise
            except Exception as error:  # a file can be wrong in as many ways as there are dialects
                raise InvalidParameterError(f"loras: {id} can't be read as an adapter") from error
            while len(self._read) > KEPT_FILES:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]

    def _sorted(
        self, id: str, state: Mapping[str, Tensor], alphas: Mapping[str, float]
    ) -> dict[str, Pairs]:
        """Sort an adapter's tensors by network and weight."""
        if any("dora_scale" in key or "magnitude" in key for key in state):
            raise InvalidParameterError(f"loras: {id} is a DoRA adapter, which isn't supported")
        found: dict[str, Pairs] = {}
        for key, down in state.items():
            stem, marker, _ = key.partition(f".{DOWN}")
            if not marker:
                continue
            part, weight = self._place(id, stem)
            up, rank = state[f"{stem}.{UP}.weight"], down.shape[0]
            alpha = alphas.get(stem, alphas.get(part, rank))
            found.setdefault(part, {})[weight] = (up.float(), down.float(), alpha / rank)
        if not found:
            raise InvalidParameterError(f"loras: {id} holds nothing that this model can take")
        return found

    def _place(self, id: str, stem: str) -> tuple[str, str]:
        """Find the weight that a pair belongs to."""
        part, _, rest = stem.partition(".")
        names = self._weights.get(part, set())
        for name in (rest, rest.removeprefix("text_model."), f"text_model.{rest}"):
            if f"{name}.weight" in names:
                return part, f"{name}.weight"
        raise InvalidParameterError(f"loras: {id} is for another model: this one has no {stem}")


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Spell the names of an adapter's tensors in the one way that newer files do."""
    replacements = (
        (".lora_linear_layer.", ".lora."),
        (".processor.", "."),
        ("_lora.down.", f".{DOWN}."),
        ("_lora.up.", f".{UP}."),
        (".lora.down.", f".{DOWN}."),
        (".lora.up.", f".{UP}."),
        (".lora_down.", f".{DOWN}."),
        (".lora_up.", f".{UP}."),
        (f".{DOWN}.default.", f".{DOWN}."),
        (f".{UP}.default.", f".{UP}."),
        (".to_out.lora_", ".to_out.0.lora_"),
        (".to_out_lora_", ".to_out.0.lora_"),
    )
    named = {}
    for key, tensor in state.items():
        new = key
        for old, better in replacements:
            new = new.replace(old, better)
        named[new] = tensor
    return named


def product(up: Tensor, down: Tensor) -> Tensor:
    """Return what a pair adds: (d, r) x (r, c) -> (d, c), or with a kernel behind c."""
    if down.dim() == 2:  # noqa: PLR2004  a linear layer's
        return up @ down
    kernel = down.shape[2:]
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], down.shape[1], *kernel)


def _alphas(told: tuple[Any, ...]) -> dict[str, float]:
    """Return the alphas of a file, by the stem of a pair or by the network for all of it."""
    found: dict[str, float] = {}
    for part in told:
        for key, value in (part or {}).items():
            if key.endswith((".alpha", ".lora_alpha")):
                stem = key.removesuffix(".lora_alpha").removesuffix(".alpha")
                found[stem] = float(value)
    return found
