"""A cluster on Kubernetes: what KubeRay makes pods of, sized by the deployments."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from calotype.catalog.catalog import Catalog
from calotype.domain.placement import REST, Deployment, Placement, plan_deployments
from calotype.scale.application import NAME
from calotype.scale.manifest import annotate, variable, write, write_config
from calotype.scale.node import ENVIRONMENT
from calotype.settings import Settings

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  a pod's: nothing else reaches the server in it
POD_CPUS = 4
"""Processors of a replica where nobody says how many: pods can't be sized by none."""
POD_MEMORY = "8Gi"
HEAD_RESOURCES = {"cpu": "2", "memory": "4Gi"}
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
STORE = f"{NAME}-store"
STORE_IMAGE = "valkey/valkey:8.1"
STORE_PORT = 6379
STORE_URL = f"redis://{STORE}:{STORE_PORT}/0"
STORE_DISK = "10Gi"
STORE_MEMORY = "2gb"
STORE_RESOURCES = {"cpu": "1", "memory": "3Gi"}

_Object = dict[str, Any]

_NOTES = {
    "authOptions:": "Without it, whoever reaches Ray may run any code; needs KubeRay 1.5.1.",
    "headGroupSpec:": "Ray's own processes; no model runs here.",
    "workerGroupSpecs:": (
        "A pod is as large as the largest replica, and there are as many as all replicas need. Of a"
        " pod's memory each replica's models may take memory_bytes, by default three quarters."
    ),
}
_CLOSED = """\
# Nobody is let in until the store has a token. Once the head runs:
#   kubectl exec $(kubectl get pod --selector ray.io/node-type=head --output name) -- \\
#     calotype token create NAME
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pods that are alike."""

    name: str
    cpus: int
    gpus: int
    least: int
    most: int


def write_service(settings: Settings, catalog: Catalog, image: str) -> str:
    """Write a RayService: a cluster, and the application on it.

    Args:
        settings: what the operator decided; ``for_pods`` has made them fit.
        catalog: the models.
        image: of the pods; has Calotype, and Ray of the version that is installed here.

    Raises:
        InvalidSettingError: the settings place a model that isn't there, or place it wrongly.
    """
    config = write_config(settings, catalog)
    groups = size_groups(plan_deployments(catalog.all(), settings.cluster_models))
    environment, serving = _environment(settings, config.withheld), {"serve": settings.port}
    cluster = {
        "rayVersion": ray.__version__,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": any(group.least < group.most for group in groups),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},
            # KubeRay makes the service of the port that the head, too, calls `serve`.
            "template": _pod("ray-head", image, environment, HEAD_RESOURCES, HEAD_PORTS | serving),
        },
        "workerGroupSpecs": [_workers(one, image, environment, serving) for one in groups],
    }
    head = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": NAME}}
    spec = {"excludeHeadPodFromServeSvc": True, "rayClusterConfig": cluster}
    parts = (
        "" if settings.insecure else _CLOSED,
        f"{write(head)}spec:\n  serveConfigV2: |\n",
        textwrap.indent(config.text, " " * 4),
        textwrap.indent(annotate(write(spec), _NOTES), " " * 2),
    )
    return "".join(parts)


def for_pods(settings: Settings, *, with_store: bool) -> Settings:
    """Make settings fit pods: they are reached from outside, and reserve processors.

    Args:
        settings: what the operator decided.
        with_store: whether the store of ``write_store`` is used.
    """
    text, default = settings.cluster_models, Settings().cluster_models
    reserved = f"{REST}: cpus={POD_CPUS}"  # said first, so that whatever is said beats it
    return replace(
        settings,
        host=EVERY_ADDRESS,
        cluster_models=reserved if text == default else f"{reserved}; {text}",
        store_url=STORE_URL if with_store else settings.store_url,
    )


def size_groups(deployments: Sequence[Deployment]) -> tuple[Group, ...]:
    """Return the pods that the replicas need: with and without GPUs.

    The first group has a pod at least, to answer requests.
    """
    kinds = {
        "cpu": [one.placement for one in deployments if not one.placement.gpus],
        "gpu": [one.placement for one in deployments if one.placement.gpus],
    }
    found = [_group(name, placements) for name, placements in kinds.items() if placements]
    found[0] = replace(found[0], least=max(1, found[0].least))
    return tuple(found)


def _group(name: str, placements: Sequence[Placement]) -> Group:
    """Size a pod by the largest replica; no two deployments share one in this reckoning."""
    cpus = max(1, math.ceil(max(one.cpus for one in placements)))
    gpus = math.ceil(max(one.gpus for one in placements))
    least = most = 0
    for one in placements:
        fitting = [pod / part for pod, part in ((cpus, one.cpus), (gpus, one.gpus)) if part]
        a_pod = math.floor(min(fitting)) if fitting else one.replicas.most
        least += math.ceil(one.replicas.least / a_pod)
        most += math.ceil(one.replicas.most / a_pod)
    return Group(name=name, cpus=cpus, gpus=gpus, least=least, most=most)


def write_store() -> str:
    """Write a store in the same cluster: Valkey, one pod that keeps what it knows on a disk."""
    labels = {"app": STORE}
    named = {"metadata": {"name": STORE}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": STORE_DISK}}}
    # Answers have a time to live and tokens have none: memory that is full costs answers only.
    options = ("--appendonly", "yes", "--maxmemory", STORE_MEMORY)
    container = {
        "name": "valkey",
        "image": STORE_IMAGE,
        "args": ["valkey-server", *options, "--maxmemory-policy", "volatile-lru"],
        "ports": [{"containerPort": STORE_PORT}],
        "readinessProbe": {"exec": {"command": ["valkey-cli", "ping"]}},
        "resources": {"requests": STORE_RESOURCES, "limits": STORE_RESOURCES},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": STORE}}
    deployment = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # two at a time would share the disk
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "volumes": [volume]},
        },
    }
    service = {"selector": labels, "ports": [{"port": STORE_PORT}]}
    return write(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **named, "spec": claim},
        {"apiVersion": "apps/v1", "kind": "Deployment", **named, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", **named, "spec": service},
    )


def _workers(
    group: Group, image: str, environment: Sequence[_Object], ports: Mapping[str, int]
) -> _Object:
    resources: _Object = {"cpu": str(group.cpus), "memory": POD_MEMORY}
    if group.gpus:
        resources["nvidia.com/gpu"] = group.gpus
    return {
        "groupName": group.name,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "rayStartParams": {},
        "template": _pod("ray-worker", image, environment, resources, ports),
    }


def _pod(
    name: str,
    image: str,
    environment: Sequence[_Object],
    resources: _Object,
    ports: Mapping[str, int],
) -> _Object:
    """Describe a pod; what it asks for is all that it gets, as Ray counts on it."""
    container = {
        "name": name,
        "image": image,
        "env": list(environment),
        "ports": [{"containerPort": port, "name": name} for name, port in ports.items()],
        "resources": {"requests": resources, "limits": resources},
    }
    return {"spec": {"containers": [container]}}


def _environment(settings: Settings, withheld: Sequence[str]) -> list[_Object]:
    """Return what every pod needs: Ray's switches, the store, and what only a secret may say."""
    said = dict(ENVIRONMENT)
    if settings.store_url and "store_url" not in withheld:
        said[variable("store_url")] = settings.store_url  # for commands there: calotype token
    plain = [{"name": name, "value": value} for name, value in said.items()]
    return plain + [_secret(name) for name in withheld]


def _secret(name: str) -> _Object:
    reference = {"name": NAME, "key": name.replace("_", "-")}
    return {"name": variable(name), "valueFrom": {"secretKeyRef": reference}}
