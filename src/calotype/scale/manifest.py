"""What ``serve deploy`` and KubeRay are given: the application and its numbers, to be edited."""

import dataclasses
import hashlib
import importlib.metadata
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

import yaml
from ray.serve._private.build_app import build_app
from ray.serve.deployment import deployment_to_schema

from calotype.catalog.catalog import Catalog
from calotype.domain.placement import SHARED, plan_deployments
from calotype.scale.application import NAME, QUIET, ROLLOUT, build_application
from calotype.scale.deploy import EVERYWHERE
from calotype.settings import ENV_PREFIX, Settings

BUILDER = "calotype.scale.application:build"
"""What makes the application on the cluster, of the arguments in the file."""
SIZES = (
    "name",
    "num_replicas",
    "autoscaling_config",
    "max_ongoing_requests",
    "ray_actor_options",
)
"""Of a deployment, what an operator edits; the code says the rest."""

_NOTES = {
    "http_options:": "Of every node; to change them, run `serve shutdown` on the cluster first.",
    "args:": (
        "Settings of Calotype by name; they beat the variables CALOTYPE_* of the nodes. And"
        f" {ROLLOUT}: Ray replaces what runs only if something in here changes, so this does with"
        " Calotype's version and the catalog. Change it for a roll-out of something else."
    ),
    "deployments:": (
        "How many there are, and what each gets. For a fixed number set num_replicas, and"
        " autoscaling_config to null. All this beats cluster_models; a replica computes with as"
        " many threads as it has num_cpus."
    ),
}
"""Comments, by the line that they stand above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """The file for ``serve deploy``."""

    text: str
    withheld: tuple[str, ...]
    """Settings with a password in them: they belong into the environment of the nodes."""


def write_config(settings: Settings, catalog: Catalog) -> ServeConfig:
    """Write the file for ``serve deploy``: what ``calotype serve --ray`` would put on a cluster.

    Raises:
        InvalidSettingError: the settings place a model that isn't there, or place it wrongly.
        UnknownModelError: one is to be loaded that isn't there.
    """
    changed, withheld = _arguments(settings)
    rollout = f"{importlib.metadata.version('calotype')} {_digest(catalog)}"
    application = {
        "name": NAME,
        "route_prefix": "/",
        "import_path": BUILDER,
        "args": {ROLLOUT: rollout, **changed},
        "deployments": [*_deployments(settings, catalog)],
    }
    config = {
        "proxy_location": EVERYWHERE,
        "http_options": {"host": settings.host, "port": settings.port},
        "logging_config": {"log_level": QUIET["log_level"]},
        "applications": [application],
    }
    notes = {**_NOTES, "args:": " ".join((_NOTES["args:"], *map(_withheld, withheld)))}
    return ServeConfig(text=annotate(write(config), notes), withheld=withheld)


def set_apart(settings: Settings, catalog: Catalog) -> Settings:
    """Give each model that would share replicas with all others a deployment of its own."""
    plan = plan_deployments(catalog.all(), settings.cluster_models)
    sharing = [spec.name for one in plan if one.name == SHARED for spec in one.models]
    return replace(settings, cluster_models="; ".join((settings.cluster_models, *sharing)))


class _Dumper(yaml.SafeDumper):
    """Writes out what is there twice, as people would."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def write(*documents: object) -> str:
    """Write YAML, in the order in which things are said."""
    return str(yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100))


def annotate(text: str, notes: Mapping[str, str]) -> str:
    """Put comments into YAML.

    Args:
        text: the YAML.
        notes: what to say, by the line above which it is said first.
    """
    left, lines = dict(notes), list[str]()
    for line in text.splitlines():
        if note := left.pop(line.strip(), ""):
            indent = line[: len(line) - len(line.lstrip())]
            lines += textwrap.wrap(
                note, 98, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        lines.append(line)
    return "\n".join((*lines, ""))


def variable(name: str) -> str:
    """Return the variable of the environment that says a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def _arguments(settings: Settings) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the settings that aren't the default, and the names of those with a password."""
    knobs = dataclasses.fields(Settings)
    said = {one.name: getattr(settings, one.name) for one in knobs}
    changed = {one.name: said[one.name] for one in knobs if said[one.name] != one.default}
    withheld = tuple(name for name, value in changed.items() if _has_password(value))
    return {name: value for name, value in changed.items() if name not in withheld}, withheld


def _deployments(settings: Settings, catalog: Catalog) -> Iterator[dict[str, object]]:
    """Yield the numbers of the very application that the cluster will build."""
    built = build_app(build_application(settings, catalog, spread=True), name=NAME)
    for deployment in built.deployments:
        said = deployment_to_schema(deployment).model_dump(exclude_unset=True)
        # One of the two that say how many is null: left out, the code's would count in its place.
        yield {key: said.get(key) for key in SIZES}


def _digest(catalog: Catalog) -> str:
    """Return what differs whenever the models do."""
    said = "\n".join(sorted(map(repr, catalog.all())))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _has_password(value: object) -> bool:
    if not isinstance(value, str) or "://" not in value:
        return False
    url = urlsplit(value)
    # A store takes its options there: password, ssl_password.
    return url.password is not None or any("password" in name for name in parse_qs(url.query))


def _withheld(name: str) -> str:
    return (
        f"{name} has a password in it and is left out:"
        f" the variable {variable(name)} of every node must say it."
    )
