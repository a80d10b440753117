"""Models that run one after the other, each on the picture that the one before made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from calotype.domain.model import AUTO, ModelSpec, ModelStatus
from calotype.domain.text import printable
from calotype.errors import UnknownModelError

JOINT = "+"
"""Stands between the models of a chain; no model's name has one."""

MAX_STAGES = 8

_NAME_CHARS = 200
_WORST_FIRST = ("too_large", "failed", "unloaded", "loading", "loaded")


@dataclass(frozen=True, slots=True)
class Chain:
    """What a name stands for; a model alone is a chain of one."""

    models: tuple[ModelSpec, ...]
    """At least one, in the order in which they run; the same one may come again."""

    @property
    def is_single(self) -> bool:
        """Whether it is a model alone."""
        return len(self.models) == 1

    @property
    def labels(self) -> tuple[str, ...]:
        """What each stage is called; empty for a model alone.

        That is the model's name, with ``#1``, ``#2`` and so on where the same model comes again.
        """
        if self.is_single:
            return ("",)
        often = Counter(model.id for model in self.models)
        return tuple(
            f"{model.name}#{number}" if often[model.id] > 1 else model.name
            for model, number in zip(self.models, self._numbers(), strict=True)
        )

    @property
    def addresses(self) -> Mapping[str, tuple[int, ...]]:
        """Return which stages each name means that a request may give them; none for a model alone.

        An id or alias means every stage of that model, the same with ``#2`` only its second.
        """
        found: dict[str, tuple[int, ...]] = {}
        for index, number in enumerate(() if self.is_single else self._numbers()):
            model = self.models[index]
            for name in filter(None, (model.id, model.alias)):
                found[name] = (*found.get(name, ()), index)
                found[f"{name}#{number}"] = (index,)
        return found

    @property
    def spec(self) -> ModelSpec:
        """Return the model alone, or what stands for all of them as if they were one."""
        if self.is_single:
            return self.models[0]
        scales = [model.scale for model in self.models if model.scale]
        joined, name = self._joined("id"), self._joined("name")
        return ModelSpec(
            id=joined,
            alias=name if name != joined else "",
            backend=self._joined("backend"),
            revision=self._joined("revision"),
            description=" Then: ".join(filter(None, (m.description for m in self.models))),
            files=tuple(file for model in self._distinct() for file in model.files),
            scale=prod(scales) if len(scales) == len(self.models) else None,
            tile=AUTO,
            overlap=AUTO,
            blend=AUTO,
            licence=" AND ".join(dict.fromkeys(model.licence for model in self.models)),
        )

    def _joined(self, attribute: str) -> str:
        return JOINT.join(getattr(model, attribute) for model in self.models)

    def _distinct(self) -> tuple[ModelSpec, ...]:
        return tuple({model.id: model for model in self.models}.values())

    def _numbers(self) -> list[int]:
        """Return of each stage how often its model has come by then."""
        ids = [model.id for model in self.models]
        return [ids[: index + 1].count(ids[index]) for index in range(len(ids))]


def stage_names(name: str) -> tuple[str, ...]:
    """Take a chain's name apart; a name without ``+`` is one stage's.

    Raises:
        UnknownModelError: a stage has no name, or there are too many.
    """
    names = tuple(name.split(JOINT))
    problem = ""
    if len(names) > 1 and not all(names):
        problem = "a stage has no name; a chain is written MODEL+MODEL"
    elif len(names) > MAX_STAGES:
        problem = f"a chain has at most {MAX_STAGES} models, got {len(names)}"
    if problem:
        raise UnknownModelError(f"Model {printable(name, _NAME_CHARS)} does not exist: {problem}")
    return names


def joint_status(chain: Chain, statuses: Sequence[ModelStatus]) -> ModelStatus:
    """Tell how a chain is: as its worst model is, and loaded only if all are.

    Args:
        chain: what the statuses are of.
        statuses: of each model in turn.
    """
    if chain.is_single:
        return statuses[0]
    worst = min(statuses, key=lambda status: _WORST_FIRST.index(status.state))
    once = {model.id: status for model, status in zip(chain.models, statuses, strict=True)}
    loads = [status.estimated_load_s for status in once.values() if status.estimated_load_s]
    held = [status.resident_bytes for status in once.values() if status.resident_bytes]
    on_gpu = any(status.device == "gpu" for status in statuses)
    return replace(
        worst,
        device="gpu" if on_gpu else "cpu",
        precision="",
        estimated_load_s=sum(loads) if loads else None,
        resident_bytes=sum(held) if held else None,
    )
