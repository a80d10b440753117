"""Where models run on a cluster, and how often: what the catalog and the settings say of it."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calotype.domain.model import ModelSpec
from calotype.errors import InvalidSettingError

REST = "*"
"""Stands for every model that no entry names."""
SHARED = "models"
"""The deployment of those."""

_BOUNDS = re.compile(r"(\d+)(?:-(\d+))?")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.]+")
_GRAIN = 0.0001
"""The least part of a processor or a GPU that Ray reserves."""
_LEAST = 0.001

_Layer = tuple[Mapping[str, object], str]
"""What is said, and where: each beats those before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many replicas there are."""

    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What each replica of a deployment gets, and how many there are."""

    replicas: Bounds = Bounds()
    cpus: float = 0.0
    """Processors that a replica reserves; 0: none, and its engines take all of the machine's."""
    gpus: float = 0.0
    ongoing: int = 8
    """Jobs that a replica holds at most, those that wait there among them."""
    target: float = 2.0
    """Jobs a replica, running or waiting, that the number of replicas aims at."""
    up_s: float = 5.0
    """How long there must be more before a replica is added."""
    down_s: float = 60.0
    """How long there must be fewer before one is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Replicas that are alike, and the models that they run."""

    name: str
    models: tuple[ModelSpec, ...]
    """Each of them runs any of these, one device's slots shared between them."""
    placement: Placement


def plan_deployments(models: Sequence[ModelSpec], text: str) -> tuple[Deployment, ...]:
    """Share the models out.

    A model that an entry names, or whose catalog table says ``cluster``, has a deployment of its
    own or with those that the entry names beside it; all others share one.

    Args:
        models: of the catalog.
        text: ``NAME, NAME: KEY=VALUE ...; *: KEY=VALUE ...``; beats the catalog.

    Raises:
        InvalidSettingError: an entry can't be read, or names what isn't there.
    """
    names = {name: spec for spec in models for name in (spec.id, spec.alias) if name}
    left = {spec.id: spec for spec in models}
    entries = [_entry(part) for part in filter(None, map(str.strip, text.split(";")))]
    rest = (_rest(entries), f"cluster_models: {REST}")
    found = []
    for named, values in entries:
        if named == [REST]:
            continue
        if unknown := [name for name in named if name not in names]:
            raise InvalidSettingError(f"cluster_models names {unknown[0]!r}, which is no model")
        specs = tuple(left.pop(names[name].id, names[name]) for name in named)
        own = (values, f"cluster_models: {', '.join(named)}")
        found.append(_deployment(specs, _placement(rest, _table(specs[0]), own)))
    tabled = [spec for spec in left.values() if spec.cluster]
    found += [_deployment((left.pop(one.id),), _placement(rest, _table(one))) for one in tabled]
    if left:
        shared = _placement(rest)
        found.append(Deployment(name=SHARED, models=tuple(left.values()), placement=shared))
    _check_names(found)
    return tuple(found)


def read_bounds(text: str, name: str, lowest: int = 0) -> Bounds:
    """Read ``3`` or ``1-3``.

    Raises:
        InvalidSettingError: it is something else.
    """
    match = _BOUNDS.fullmatch(text.strip())
    least = int(match[1]) if match else -1
    most = int(match[2]) if match and match[2] else least
    if not lowest <= least <= most or not most:
        some = "" if lowest else " and MAX above 0"
        raise InvalidSettingError(
            f"{name} must be a whole number above 0, or MIN-MAX with {lowest} <= MIN <= MAX{some},"
            f" got {text!r}"
        )
    return Bounds(least=least, most=most)


def _entry(text: str) -> tuple[list[str], dict[str, object]]:
    """Read ``NAME, NAME: KEY=VALUE KEY=VALUE``."""
    before, colon, after = text.partition(":")
    if "=" in before and not colon:
        raise InvalidSettingError(
            f"cluster_models needs a ':' between the names and KEY=VALUE, got {text!r}"
        )
    names = [name.strip() for name in before.split(",") if name.strip()]
    pairs = [word.partition("=") for word in after.split()]
    if not names or not all(key and value for key, _, value in pairs):
        raise InvalidSettingError(
            f"cluster_models must be NAME, NAME: KEY=VALUE ...; ..., got {text!r}"
        )
    return names, {key: value for key, _, value in pairs}


def _rest(entries: Sequence[tuple[list[str], dict[str, object]]]) -> dict[str, object]:
    """Return what the entry for the rest says.

    Processors that are said first, alone, are what pods reserve: one more entry may beat them.

    Raises:
        InvalidSettingError: there are several.
    """
    said = [values for named, values in entries if named == [REST]]
    reserved = said[0] if said and entries[0][0] == [REST] and list(said[0]) == ["cpus"] else {}
    if len(said) > (2 if reserved else 1):
        raise InvalidSettingError(f"cluster_models has {REST!r} twice")
    return {**reserved, **said[-1]} if said else {}


def _table(spec: ModelSpec) -> _Layer:
    """Return what the catalog says of a model."""
    return spec.cluster, f"model {spec.id}: cluster"


def _placement(*layers: _Layer) -> Placement:
    """Return the placement that all layers give together.

    Raises:
        InvalidSettingError: there is no such value, or it is none.
    """
    said: dict[str, object] = {}
    for values, where in layers:
        said |= {key: _value(key, value, where) for key, value in values.items()}
    placement = Placement(**said)  # type: ignore[arg-type]  # of the kinds that are known
    if "target" in said and placement.target > placement.ongoing:
        raise InvalidSettingError(
            f"{layers[-1][1]}: target must be at most ongoing, which is {placement.ongoing},"
            f" got {placement.target:g}"
        )
    return placement


def _value(key: str, value: object, where: str) -> Bounds | float:
    """Read one value.

    Raises:
        InvalidSettingError: there is none of that name, or it is none.
    """
    if key == "replicas":
        return read_bounds(str(value), f"{where}: {key}")
    if key not in _NUMBERS:
        known = ", ".join(field.name for field in dataclasses.fields(Placement))
        raise InvalidSettingError(f"{where} has the keys {known}, got {key!r}")
    read, is_allowed, allowed = _NUMBERS[key]
    try:
        number = read(str(value))
    except ValueError:
        number = math.nan
    if not (number < math.inf and is_allowed(number)):  # nan is none of it
        raise InvalidSettingError(f"{where}: {key} must be {allowed}, got {value!r}")
    return number


def _is_share(number: float) -> bool:
    """Tell whether so much of a machine can be reserved."""
    return number == 0 or number >= _GRAIN


def _are_devices(number: float) -> bool:
    """Tell whether so many GPUs can be reserved: a part of one, or whole ones."""
    return _is_share(number) and (number <= 1 or number == int(number))


_Rule = tuple[Callable[[str], float], Callable[[float], bool], str]
_SOME: _Rule = (float, lambda number: number >= _LEAST, f"a number, {_LEAST} or more")
_NUMBERS: Mapping[str, _Rule] = {
    "cpus": (float, _is_share, f"0 or more (no part below {_GRAIN})"),
    "gpus": (float, _are_devices, f"0 or more (no part below {_GRAIN}, and whole above 1)"),
    "ongoing": (int, lambda number: number >= 1, "a whole number above 0"),
    "target": _SOME,
    "up_s": _SOME,
    "down_s": _SOME,
}
"""How each number is read, which ones are allowed, and how that is said."""


def _deployment(specs: tuple[ModelSpec, ...], placement: Placement) -> Deployment:
    name = _NO_NAME.sub("-", specs[0].name)
    return Deployment(name=f"model-{name}", models=specs, placement=placement)


def _check_names(found: Sequence[Deployment]) -> None:
    """Refuse two deployments of one name, and a model that is in two places, or twice in one."""
    names = Counter(one.name for one in found)
    ids = Counter(spec.id for one in found for spec in one.models)
    for key, times in (*names.items(), *ids.items()):
        if times > 1:
            raise InvalidSettingError(f"cluster_models has {key!r} twice")
