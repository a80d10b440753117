"""From the parameters of a request to what each stage of a chain runs with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from calotype.domain.chain import Chain
from calotype.domain.params import MAX_WARNINGS, RESERVED, Notes, apply_params, canonical
from calotype.domain.request import Stage
from calotype.domain.text import show_value
from calotype.errors import InvalidParameterError

OUTPUT = "output_format"
SIZES = frozenset({"target_size", "width", "height"})
"""The spellings of one parameter."""
KNOWN_MODELS = 256
"""Whose plan without parameters is kept."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to run, in which order and with what."""

    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]
    """What was ignored or changed; printable ASCII, one header each."""

    @property
    def last(self) -> Stage:
        """The stage that makes the answer."""
        return self.stages[-1]

    @cached_property
    def text(self) -> str:
        """All parameters, written so that equal ones give equal text: for cache keys."""
        return ",".join(canonical(stage.values) for stage in self.stages)


class Planner:
    """Plans, and remembers the plans of requests without parameters, which are most."""

    def __init__(self) -> None:
        self._known: dict[str, Plan] = {}

    def plan(self, chain: Chain, raw: Mapping[str, object], *, strict: bool = False) -> Plan:
        """Do what ``plan_stages`` does.

        Raises:
            InvalidParameterError: as there.
            MalformedRequestError: as there.
        """
        if raw or not chain.is_single:
            return plan_stages(chain, raw, strict=strict)
        model = chain.models[0]
        known = self._known.get(model.id)
        if known is not None and known.last.model is model:
            return known
        plan = plan_stages(chain, raw, strict=strict)
        if not plan.warnings:  # which ``strict`` makes errors
            if len(self._known) >= KNOWN_MODELS:
                self._known.clear()
            self._known[model.id] = plan
        return plan


def plan_stages(chain: Chain, raw: Mapping[str, object], *, strict: bool = False) -> Plan:
    """Check what was sent, and tell what each stage runs with.

    In a chain, an object under a stage's name holds parameters of that stage alone, and they beat
    the others. Of the others, size and format belong to the last stage, and each goes to every
    stage that takes it. For a model alone this is ``apply_params``.

    Args:
        chain: what will run.
        raw: parameters as sent; None counts as not given.
        strict: refuse what would otherwise be ignored or changed with a warning.

    Raises:
        InvalidParameterError: a wrong type or range, one missing, or one refused by ``strict``.
        MalformedRequestError: an image that is not base64.
    """
    if chain.is_single:
        applied = apply_params(chain.models[0], raw, strict=strict)
        stage = Stage(model=chain.models[0], values=applied.values)
        return Plan(stages=(stage,), warnings=applied.warnings)
    notes = Notes(strict=strict)
    shared = {name: value for name, value in raw.items() if value is not None}
    tables = _take_tables(chain, shared)
    _note_unused(chain, shared, notes)
    warnings, stages, last = notes.warnings, [], len(chain.models) - 1
    for index, (model, label) in enumerate(zip(chain.models, chain.labels, strict=True)):
        given, where = tables[index], f"{label}."
        if index != last and OUTPUT in given:
            aside = Notes(strict=strict, where=where)
            reason = "only the last stage writes a file"
            aside.add(f"{OUTPUT} was ignored: {reason}", f"{where}{OUTPUT} is refused: {reason}")
            warnings += aside.warnings
            del given[OUTPUT]
        given = _shared_with(chain, index, shared, given) | given
        applied = apply_params(model, given, strict=strict, where=where)
        warnings += applied.warnings
        stages.append(Stage(model=model, values=applied.values, label=label))
    kept = Notes(strict=False)
    kept.count(len(warnings) - MAX_WARNINGS)
    return Plan(stages=tuple(stages), warnings=(*warnings[:MAX_WARNINGS], *kept.warnings))


def _take_tables(chain: Chain, shared: dict[str, object]) -> list[dict[str, object]]:
    """Take out what is said to one stage; a name that is a parameter's too holds it, if no object.

    Raises:
        InvalidParameterError: a stage's parameters are no object, or are sent twice.
    """
    tables: list[dict[str, object]] = [{} for _ in chain.models]
    said: dict[tuple[int, ...], str] = {}
    taken = _taken(chain)
    # Those with a number come last, so that they beat what is said to every stage of their model.
    addresses = sorted(chain.addresses.items(), key=lambda item: "#" in item[0])
    for name, indices in addresses:
        is_object = isinstance(shared.get(name), Mapping)
        if name not in shared or name in RESERVED or (name in taken and not is_object):
            continue
        table = shared.pop(name)
        if not isinstance(table, Mapping):
            raise InvalidParameterError(
                f"{name} must be an object with parameters of that stage, got {show_value(table)}"
            )
        if (before := said.get(indices)) is not None and ("#" in before) == ("#" in name):
            raise InvalidParameterError(f"{before} and {name} name the same stage: send one")
        said[indices] = name
        for index in indices:
            _lay_over(tables[index], table)
    return tables


def _lay_over(table: dict[str, object], more: Mapping[str, object]) -> None:
    """Add parameters to those of a stage, in place of any that mean the same."""
    given = {str(name): value for name, value in more.items() if value is not None}
    if SIZES & set(given):
        for name in SIZES:
            table.pop(name, None)
    table.update(given)


def _taken(chain: Chain) -> frozenset[str]:
    """Return every parameter that some stage takes."""
    return RESERVED | {param.name for model in chain.models for param in model.params}


def _note_unused(chain: Chain, shared: Mapping[str, object], notes: Notes) -> None:
    """Note what no stage takes."""
    taken = _taken(chain)
    unused = [name for name in shared if name not in taken]
    notes.add_ignored(unused, chain.spec.name, (*sorted(taken), *chain.labels))


def _shared_with(
    chain: Chain, index: int, shared: Mapping[str, object], own: Mapping[str, object]
) -> dict[str, object]:
    """Return what of the parameters for all a stage gets."""
    names = {param.name for param in chain.models[index].params}
    if index == len(chain.models) - 1:
        names |= RESERVED
        if SIZES & set(own):
            names -= SIZES
    return {name: value for name, value in shared.items() if name in names}
