"""The application that Ray Serve deploys: servers in front, one deployment of replicas a place."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.context import _get_global_client

from calotype.api.door import check_shared, has_tokens
from calotype.assembly import open_catalog
from calotype.catalog.catalog import Catalog
from calotype.domain.placement import (
    SHARED,
    Bounds,
    Deployment,
    Placement,
    plan_deployments,
    read_bounds,
)
from calotype.running import named
from calotype.scale.ingress import Ingress
from calotype.scale.replica import Replica
from calotype.scale.weights_source import start_source
from calotype.settings import Settings, load_settings

logger = logging.getLogger(__name__)

NAME = "calotype"
"""Of the application."""
ROLLOUT = "rollout"
"""An argument that is none of ours: Ray replaces what runs if the arguments have changed."""
FRONT = "ingress"
"""Of the deployment in front."""

MOST_OPEN = 10_000
"""Requests that a server in front holds, open streams of events among them: it bounds its jobs
itself, and answers what is too much."""
FRONT_TARGET = 32.0
"""Requests a server in front that the number of servers aims at."""
END_S = 5.0
"""What a server in front gets to say how its last jobs ended."""
HEALTH_S = 5.0
"""How often a replica is asked whether it lives."""
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Of Ray's own log: ours has a line for each request."""


def build(said: Mapping[str, object]) -> Application:
    """Make the application from settings, as ``serve deploy`` and KubeRay want it.

    Args:
        said: settings by name, over those of the environment; and ``ROLLOUT``, which only differs.

    Raises:
        ConfigError: a setting or a catalog file is wrong.
    """
    settings = load_settings({name: value for name, value in said.items() if name != ROLLOUT})
    host, port = listening()  # whatever the arguments say of it
    settings = replace(settings, host=host, port=port)
    start_source(settings)
    closed = has_tokens(settings, unknown=False)
    return build_application(settings, open_catalog(settings), spread=True, closed=closed)


def listening() -> tuple[str, int]:
    """Return the address at which the proxies of this cluster answer."""
    options = _get_global_client().http_config
    return str(options.host or ""), int(options.port)


def build_application(
    settings: Settings, catalog: Catalog, *, spread: bool, closed: bool = False
) -> Application:
    """Make the application.

    Args:
        settings: what the operator decided.
        catalog: the models.
        spread: whether there may be several nodes, whose files come from this one.
        closed: there are tokens.

    Raises:
        InvalidSettingError: the settings place a model that isn't there, or place it wrongly.
        UnknownModelError: one is to be loaded that isn't there.
    """
    if spread:
        check_shared(settings)
    deployments = plan_deployments(catalog.all(), settings.cluster_models)
    servers = read_bounds(settings.cluster_ingresses, "cluster_ingresses", 1)
    if servers.most > 1 and not settings.store_url:
        logger.warning(
            "several servers without a store: each has a cache of its own, counts rates for itself,"
            " and knows no request of the others; set store_url"
        )
    kept = {spec.id for spec in named(settings.preload, catalog)}
    pinned = {spec.id for spec in named(settings.pin, catalog)}
    handles = {
        one.name: _replicas(one, _own(settings, one, kept, pinned), spread=spread)
        for one in deployments
    }
    models = sorted(catalog.all(), key=lambda spec: spec.id != catalog.default.id)
    front = serve.deployment(
        name=FRONT,
        max_ongoing_requests=MOST_OPEN,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=settings.drain_s + END_S,
        health_check_period_s=HEALTH_S,
        logging_config=QUIET,
        **_scaling(servers, FRONT_TARGET),
    )(Ingress)
    # The replicas load what is to be loaded, each before it takes jobs.
    settings = replace(settings, preload="", pin="")
    return front.bind(settings, models, deployments, handles, spread=spread, closed=closed)


def _own(
    settings: Settings, deployment: Deployment, preloaded: set[str], pinned: set[str]
) -> Settings:
    """Return the settings of a deployment's replicas.

    Those of models that have a place of their own load them before they take jobs.
    """
    is_own = deployment.name != SHARED
    ids = [spec.id for spec in deployment.models]
    return replace(
        settings,
        preload=",".join(one for one in ids if is_own or one in preloaded),
        pin=",".join(one for one in ids if one in pinned),
    )


def _replicas(deployment: Deployment, settings: Settings, *, spread: bool) -> Application:
    """Describe the replicas of a deployment."""
    placement = deployment.placement
    replicas = serve.deployment(
        name=deployment.name,
        max_ongoing_requests=placement.ongoing,
        ray_actor_options={"num_cpus": placement.cpus, "num_gpus": placement.gpus},
        graceful_shutdown_timeout_s=settings.drain_s,
        health_check_period_s=HEALTH_S,
        logging_config=QUIET,
        **_scaling(placement.replicas, placement.target, placement),
    )(Replica)
    return replicas.bind(settings, deployment.models, spread=spread)


def _scaling(replicas: Bounds, target: float, placement: Placement | None = None) -> dict[str, Any]:
    """Return how many replicas there are, as Ray Serve takes it."""
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.least}
    placement = placement or Placement()
    scaling = AutoscalingConfig(
        min_replicas=replicas.least,
        max_replicas=replicas.most,
        target_ongoing_requests=target,
        upscale_delay_s=placement.up_s,
        downscale_delay_s=placement.down_s,
    )
    return {"autoscaling_config": scaling}
