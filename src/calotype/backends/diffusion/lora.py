"""Adapters: from files in many dialects to what is added to each weight."""

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calotype.backends.diffusion.adapter import Deltas
from calotype.domain.lora import SUFFIX, lora_file
from calotype.domain.request import Loras
from calotype.errors import InvalidParameterError

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
        self._layers = {part: dict(module.named_modules()) for part, module in parts.items()}
        self._read: OrderedDict[tuple[str, int], dict[str, Pairs]] = OrderedDict()

    def name(self, loras: Loras) -> str:
        """Return a name that is equal only for equal additions.

        Raises:
            InvalidParameterError: there is no such adapter.
        """
        name = hashlib.blake2b(digest_size=16)
        for adapter, scale in loras.scales:
            stamp = self._find(adapter).stat().st_mtime_ns
            name.update(f"{adapter} {stamp} {scale}\n".encode())
        return name.hexdigest()

    def deltas(self, loras: Loras) -> dict[str, Deltas]:
        """Return what adapters add, by network; as large as what it is added to.

        Raises:
            InvalidParameterError: there is no such adapter, or it isn't one for this model.
        """
        sums: dict[str, dict[str, Tensor]] = {}
        for adapter, scale in loras.scales:
            path = self._find(adapter)
            for part, pairs in self._pairs(adapter, path, path.stat().st_mtime_ns).items():
                total = sums.setdefault(part, {})
                for weight, (up, down, factor) in pairs.items():
                    delta = product(up, down) * (factor * scale)
                    total[weight] = total[weight] + delta if weight in total else delta
        return dict(sums)

    def _find(self, id: str) -> Path:
        """Find an adapter's file; the id was checked to be no path out of the folder."""
        found = lora_file(self._folder, id) if self._folder else None
        if found is not None and found.is_file():
            return found
        there = ", ".join(names(self._folder)) or "none"
        raise InvalidParameterError(
            f"loras: there is no adapter {id} on this server; there are: {there}. `calotype pull"
            f" {id}` may fetch it"
        )

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
                self._read[key] = self._sorted(id, plain(state), read_scales(told))
            except InvalidParameterError:
                raise
            except Exception as error:  # a file can be wrong in as many ways as there are dialects
                raise InvalidParameterError(f"loras: {id} can't be read as an adapter") from error
            while len(self._read) > KEPT_FILES:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]

    def _sorted(self, id: str, state: Mapping[str, Tensor], scales: "Scales") -> dict[str, Pairs]:
        """Sort an adapter's tensors by network and weight."""
        odd = [key for key in state if f".{DOWN}.weight" not in key and f".{UP}.weight" not in key]
        if odd:
            raise InvalidParameterError(
                f"loras: {id} holds {odd[0]}, and only plain LoRA is supported: DoRA, biases and"
                " others are not"
            )
        found: dict[str, Pairs] = {}
        for key, down in state.items():
            stem, marker, _ = key.partition(f".{DOWN}")
            if not marker:
                continue
            up = state.get(f"{stem}.{UP}.weight")
            part, layer = self._place(id, stem)
            if up is None or not fits(up, down, self._layers[part][layer]):
                raise InvalidParameterError(
                    f"loras: {id} is for another model: its {stem} has another shape"
                )
            factor = scales.of(part, stem, down.shape[0])
            found.setdefault(part, {})[f"{layer}.weight"] = (up.float(), down.float(), factor)
        if not found:
            raise InvalidParameterError(f"loras: {id} holds nothing that this model can take")
        return found

    def _place(self, id: str, stem: str) -> tuple[str, str]:
        """Find the network and the layer that a pair belongs to."""
        part, _, rest = stem.partition(".")
        layers = self._layers.get(part, {})
        for name in (rest, rest.removeprefix("text_model."), f"text_model.{rest}"):
            if hasattr(layers.get(name), "weight"):
                return part, name
        raise InvalidParameterError(f"loras: {id} is for another model: this one has no {stem}")


@dataclass(frozen=True, slots=True)
class Scales:
    """What the products of an adapter's pairs are multiplied with."""

    alphas: Mapping[str, float]
    """By the stem of a pair, or by the network for all of it."""
    patterns: Mapping[str, Mapping[str, float]]
    """By network: alphas by the end of a layer's name, as peft writes them."""
    rooted: frozenset[str]
    """Networks whose alphas are divided by the root of the rank."""

    def of(self, part: str, stem: str, rank: int) -> float:
        """Return the factor of a pair.

        Source: Hu et al. 2021 (alpha / rank); Kalajdzievski 2023 (alpha / sqrt(rank)).
        """
        alpha = self.alphas.get(stem, self.alphas.get(part, float(rank)))
        for end, own in self.patterns.get(part, {}).items():
            if re.search(rf"(?:^|\.){end}$", stem):
                alpha = own
        return alpha / (math.sqrt(rank) if part in self.rooted else rank)


def read_scales(told: Iterable[Mapping[str, Any] | None]) -> Scales:
    """Read what a file says of its scales, in the several places where files do."""
    alphas: dict[str, float] = {}
    patterns: dict[str, Mapping[str, float]] = {}
    rooted: set[str] = set()
    for key, value in (item for part in told for item in (part or {}).items()):
        part, _, name = key.rpartition(".")
        match name:
            case "alpha" | "lora_alpha":
                # Some name the tensor that it belongs to, others the layer.
                alphas[spelt(f"{part}.").partition(f".{DOWN}")[0].rstrip(".")] = float(value)
            case "alpha_pattern" if value:
                patterns[part] = {end: float(alpha) for end, alpha in value.items()}
            case "use_rslora" if value:
                rooted.add(part)
            case "use_dora" if value:
                raise InvalidParameterError("loras: DoRA isn't supported")
            case _:
                pass
    return Scales(alphas, patterns, frozenset(rooted))


def fits(up: Tensor, down: Tensor, layer: nn.Module) -> bool:
    """Tell whether the product of a pair has the shape of a layer's weight.

    The weight itself may be gone, when the layer was converted.
    """
    match layer:
        case nn.Linear():
            shape: tuple[int, ...] = (layer.out_features, layer.in_features)
        case nn.Conv2d():
            shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        case _:
            return False
    same_rank = up.shape[1] == down.shape[0] and all(side == 1 for side in up.shape[2:])
    return same_rank and (up.shape[0], *down.shape[1:]) == shape


def names(folder: Path | None) -> list[str]:
    """Return the ids of a few adapters that are there."""
    files = sorted(folder.rglob(f"*{SUFFIX}")) if folder else []
    return [f.relative_to(folder).as_posix().removesuffix(SUFFIX) for f in files[:_SHOWN] if folder]


DIALECTS = (
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
    (".self_attn.to_q.", ".self_attn.q_proj."),
    (".self_attn.to_k.", ".self_attn.k_proj."),
    (".self_attn.to_v.", ".self_attn.v_proj."),
    (".self_attn.to_out.0.", ".self_attn.out_proj."),
)
"""What older files write -> what newer ones do, one after the other."""


def spelt(name: str) -> str:
    """Spell the name of an adapter's tensor in the one way that newer files do."""
    for old, better in DIALECTS:
        name = name.replace(old, better)
    return name


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Spell the names of all tensors so."""
    return {spelt(key): tensor for key, tensor in state.items()}


def product(up: Tensor, down: Tensor) -> Tensor:
    """Return what a pair adds: (d, r) x (r, c) -> (d, c), or with a kernel behind c."""
    if down.dim() == 2:  # noqa: PLR2004  a linear layer's
        return up @ down
    kernel = down.shape[2:]
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], down.shape[1], *kernel)
