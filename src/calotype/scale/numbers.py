"""One page of numbers for a whole cluster, in the Prometheus text format."""

import urllib.request
from collections.abc import Iterable, Mapping
from http.client import HTTPException

import ray
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from ray import serve

from calotype.observe import metrics

PROCESS = "replica"
"""The label that tells the processes apart."""
ANSWER_S = 2.0
"""What a node gets to answer."""
_CREATED = "_created"


def own_page() -> tuple[str, bytes]:
    """Return the name of this replica, and its numbers."""
    replica = serve.get_replica_context().replica_id
    return f"{replica.deployment_id.name}-{replica.unique_id}", metrics.exposition()


def merged(pages: Mapping[str, bytes], nodes: Iterable[bytes] = ()) -> bytes:
    """Join pages of numbers: those of our processes get a label each, those of Ray have theirs.

    Args:
        pages: by name of the process.
        nodes: what Ray says of each node.
    """
    families: dict[str, Metric] = {}
    for process, page in pages.items():
        _add(families, page, {PROCESS: process})
    for page in nodes:
        _add(families, page, {})
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)


def node_pages() -> list[bytes]:
    """Ask the nodes of the cluster for Ray's own numbers; those that don't answer are left out."""
    pages = []
    for node in ray.nodes():
        if node["Alive"] and (port := node["MetricsExportPort"]):
            url = f"http://{node['NodeManagerAddress']}:{port}/metrics"
            try:
                with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                    pages.append(answer.read())
            except (OSError, HTTPException):  # it may end in the middle of its answer
                continue
    return pages


class _Collected(Collector):
    """Families of numbers, as a registry takes them."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return all of them."""
        return self._families.values()


def _add(families: dict[str, Metric], page: bytes, labels: Mapping[str, str]) -> None:
    for family in text_string_to_metric_families(page.decode()):
        if family.name.endswith(_CREATED):
            continue  # when a process began to count; it has no meaning for all together
        known = families.setdefault(
            family.name, Metric(family.name, family.documentation, family.type)
        )
        known.samples += [
            sample._replace(labels={**sample.labels, **labels}) for sample in family.samples
        ]
