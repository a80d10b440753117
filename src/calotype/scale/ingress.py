"""A server in front of a cluster's models: the same HTTP application, its jobs sent away."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from calotype.assembly import Services, assemble, create_server
from calotype.catalog.catalog import Catalog
from calotype.domain.model import ModelSpec
from calotype.domain.placement import Deployment
from calotype.observe import logs
from calotype.scale.leaving import Leaving
from calotype.scale.numbers import own_page
from calotype.scale.remote import RemoteRunner
from calotype.scale.stamp import AdapterStamps
from calotype.scale.weights_source import RemoteSource
from calotype.settings import Settings

STAMP_S = 1.0
"""What the node that has the adapters gets to say which they are."""


@serve.ingress()
class Ingress:
    """Reads, caches and answers requests; Ray Serve makes it, on a loop of its own.

    Args:
        settings: as on one machine.
        models: the catalog, the first being the default.
        deployments: where they run.
        handles: by name of the deployment.
        spread: whether the files of models are on one of several nodes.
        closed: there were tokens when it was deployed: a store that loses them opens nothing.
    """

    def __init__(
        self,
        settings: Settings,
        models: Sequence[ModelSpec],
        deployments: Sequence[Deployment],
        handles: Mapping[str, DeploymentHandle[Any]],
        *,
        spread: bool,
        closed: bool,
    ) -> None:
        self._closed = closed
        self._settings, self._models, self._spread = settings, models, spread
        self._deployments, self._handles = deployments, handles
        self._services: Services | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Make the application, on the loop that runs it."""
        logs.set_up(self._settings.log_level, self._settings.log_format)
        own = serve.get_replica_context()
        runner = RemoteRunner(
            self._deployments,
            self._handles,
            front=serve.get_deployment_handle(own.deployment, own.app_name, _check_exists=False),
            jobs=self._settings.queue_size,
            picture_bytes=self._settings.queue_bytes,
        )
        catalog = Catalog(self._models, self._models[0].id)
        # Ray waits for connections before it ends a server, and jobs have none.
        jobs_s = self._settings.drain_s
        if not self._spread:
            self._services = assemble(self._settings, catalog, runner)
            return Leaving(create_server(self._services, jobs_s=jobs_s, closed=self._closed))
        stamp = AdapterStamps(RemoteSource(patience_s=0.0, answer_s=STAMP_S))
        self._services = assemble(self._settings, catalog, runner, stamp)
        find = RemoteSource().find
        return Leaving(create_server(self._services, find, jobs_s, closed=self._closed))

    async def numbers(self) -> tuple[str, bytes]:
        """Return the name of this process, and its metrics."""
        return own_page()

    async def drain(self) -> bool:
        """Take no more work and wait for what is in; False if some was not done in time."""
        if self._services is None:
            return True
        self._services.refuse()
        settled = await self._services.settle()
        await asyncio.sleep(0)  # those whose job is done are answered
        return settled
