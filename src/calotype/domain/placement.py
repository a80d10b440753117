"""Where models run on a cluster, and how often: what the catalog and the settings say of it."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from calotype.domain.model import ModelSpec
from calotype.errors import InvalidSettingError

REST = "*"
"""Stands for every model that no entry names."""
SHARED = "models"
"""The deployment of those."""

_BOUNDS = re.compile(r"(\d+)(?:-(\d+))?")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.]+")


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
    base, left = Placement(), {spec.id: spec for spec in models}
    entries = [_entry(part) for part in filter(None, map(str.strip, text.split(";")))]
    for named, values in entries:
        if named == [REST]:
            base = _placement(base, values, f"cluster_models: {REST}")
    found = []
    for named, values in entries:
        if named == [REST]:
            continue
        if unknown := [name for name in named if name not in names]:
            raise InvalidSettingError(f"cluster_models names {unknown[0]!r}, which is no model")
        specs = tuple(left.pop(names[name].id, names[name]) for name in named)
        own = _placement(base, specs[0].cluster, f"model {specs[0].id}: cluster")
        placement = _placement(own, values, f"cluster_models: {', '.join(named)}")
        found.append(_deployment(specs, placement))
    for spec in [spec for spec in left.values() if spec.cluster]:
        where = f"model {spec.id}: cluster"
        found.append(_deployment((left.pop(spec.id),), _placement(base, spec.cluster, where)))
    if left:
        found.append(Deployment(name=SHARED, models=tuple(left.values()), placement=base))
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
        raise InvalidSettingError(
            f"{name} must be a number or MIN-MAX, at least {max(1, lowest)} at most, got {text!r}"
        )
    return Bounds(least=least, most=most)


def _entry(text: str) -> tuple[list[str], dict[str, object]]:
    """Read ``NAME, NAME: KEY=VALUE KEY=VALUE``."""
    before, _, after = text.partition(":")
    names = [name.strip() for name in before.split(",") if name.strip()]
    pairs = [word.partition("=") for word in after.split()]
    if not names or not all(key and value for key, _, value in pairs):
        raise InvalidSettingError(
            f"cluster_models must be NAME, NAME: KEY=VALUE ...; ..., got {text!r}"
        )
    return names, {key: value for key, _, value in pairs}


def _placement(base: Placement, values: Mapping[str, object], where: str) -> Placement:
    """Return a placement with some values changed.

    Raises:
        InvalidSettingError: there is no such value, or it is none.
    """
    known = {field.name: getattr(base, field.name) for field in dataclasses.fields(Placement)}
    changed: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise InvalidSettingError(f"{where} has the keys {', '.join(known)}, got {key!r}")
        if key == "replicas":
            changed[key] = read_bounds(str(value), f"{where}: {key}")
            continue
        kind, lowest = type(known[key]), 0 if key in ("cpus", "gpus") else 1e-3
        try:
            number = kind(str(value))
        except ValueError:
            number = -1
        if not lowest <= number < math.inf:  # nan is less than nothing
            raise InvalidSettingError(f"{where}: {key} must be a number above 0, got {value!r}")
        changed[key] = number
    return replace(base, **changed)  # type: ignore[arg-type]  # of the kinds that are known


def _deployment(specs: tuple[ModelSpec, ...], placement: Placement) -> Deployment:
    name = _NO_NAME.sub("-", specs[0].name)
    return Deployment(name=f"model-{name}", models=specs, placement=placement)


def _check_names(found: Iterable[Deployment]) -> None:
    """Refuse two deployments of one name, which one model in two entries gives too."""
    seen: dict[str, Deployment] = {}
    for deployment in found:
        for key in (deployment.name, *(spec.id for spec in deployment.models)):
            if key in seen and seen[key] is not deployment:
                raise InvalidSettingError(f"cluster_models has {key!r} twice")
            seen[key] = deployment
