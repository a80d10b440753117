"""The depot as an actor that every node of a Ray cluster can ask."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from calotype.assembly import open_catalog
from calotype.catalog.supply import Deliver, find_models
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import CalotypeError, MissingWeightsError
from calotype.scale.depot import Depot
from calotype.scale.digest import Digests
from calotype.scale.weights import DIGESTS, FOLDER
from calotype.settings import Settings

logger = logging.getLogger(__name__)

NAME = "calotype-weights"
NAMESPACE = "calotype"
CALLS = 16
"""Pieces, and files that are being digested, at the same time."""
START_S = 60.0
"""Within which the actor has to be there."""
DIGEST_S = 1800.0
"""Within which a model's files have to be read once."""
GREET_S = 10.0
PAUSE_S = 0.5


class DepotActor(Depot):
    """A depot over what the settings of its node name.

    Args:
        settings: of the node that read the catalog.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            lambda: open_catalog(settings).all(),
            partial(find_models, folder=settings.models_path),
            settings.loras_path,
            Digests(settings.cache_path / FOLDER / DIGESTS),
        )
        self._settings = settings

    def serves(self, settings: Settings) -> bool:
        """Tell whether it has the catalog of these settings."""
        return self._settings == settings

    def node_id(self) -> str:
        """Tell on which node it reads that catalog and its files."""
        return str(ray.get_runtime_context().get_node_id())


def start_source(settings: Settings) -> None:
    """Let this node hand out the files of its catalog; one actor a cluster, the latest counts.

    It stays until ``stop_source``, whatever becomes of this process.

    Args:
        settings: by which this process reads the catalog that it deploys.

    Raises:
        MissingWeightsError: Ray can't start it here.
    """
    settings = _anywhere(settings)
    here = ray.get_runtime_context().get_node_id()
    actor: Any = ray.remote(DepotActor)
    options = {
        "name": NAME,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_concurrency": CALLS,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
    if _serves(settings, here):
        return
    stop_source()
    try:
        handle = actor.options(**options).remote(settings)
        ray.get(handle.serves.remote(settings), timeout=START_S)
    except (RayError, ValueError) as error:
        raise MissingWeightsError(f"this node can't hand out weights: {error}") from error


def stop_source() -> None:
    """End the actor, if there is one."""
    try:
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))
    except ValueError:
        return
    until_s = time.monotonic() + GREET_S
    while time.monotonic() < until_s:  # its name is free a moment later
        try:
            ray.get_actor(NAME, namespace=NAMESPACE)
        except ValueError:
            return
        time.sleep(PAUSE_S / 10)


class RemoteSource:
    """The depot, asked from any process of the cluster; a ``Source`` for ``NodeWeights``.

    An actor that is gone for a while, and comes back or is replaced, is asked again: a file goes
    on at the piece that is due.

    Args:
        patience_s: how long it may be away.
        answer_s: within which what needs no long reading has to come.
    """

    def __init__(self, patience_s: float = 60.0, answer_s: float = 60.0) -> None:
        self._patience_s, self._answer_s = patience_s, answer_s

    def seal(self, spec: ModelSpec) -> tuple[WeightFile, ...]:
        """See ``Source``."""
        files: tuple[WeightFile, ...] = self._ask(DIGEST_S, "seal", spec.id, spec.revision)
        return files

    def read(self, spec: ModelSpec, role: str) -> Iterator[bytes]:
        """See ``Source``; a piece is on its way while the one before is being written."""
        ask = partial(self._ask, self._answer_s, "read", spec.id, spec.revision, role)
        with ThreadPoolExecutor(1, "weights") as ahead:
            start, coming = 0, ahead.submit(ask, 0)
            while piece := coming.result():
                start += len(piece)
                coming = ahead.submit(ask, start)
                yield piece

    def adapter(self, id: str) -> ModelSpec | None:
        """See ``Source``."""
        spec: ModelSpec | None = self._ask(self._answer_s, "adapter", id)
        return spec

    def find(self, id: str) -> Deliver:
        """Ask the Hub for a model, through the one node that does; a ``Find`` for ``Supply``."""
        self._ask(START_S, "find", id)
        return partial(self._ask, None, "pull", id)

    def _ask(self, limit_s: float | None, method: str, *args: object) -> Any:  # noqa: ANN401  Ray has no types
        """Call the actor, again if it is away.

        Raises:
            CalotypeError: that the actor raised; MissingWeightsError if it is away too long.
        """
        until_s = time.monotonic() + self._patience_s
        while True:
            try:
                handle = ray.get_actor(NAME, namespace=NAMESPACE)
                return ray.get(getattr(handle, method).remote(*args), timeout=limit_s)
            except RayTaskError as error:
                if isinstance(error.cause, CalotypeError):
                    raise error.cause from None
                raise
            except (RayError, ValueError) as error:
                if time.monotonic() >= until_s:
                    raise MissingWeightsError(
                        "the node with the weights does not answer: start it, deploy from another"
                        " node, or put the files where each node finds them"
                    ) from error
                logger.info("the node with the weights does not answer: %s", type(error).__name__)
            time.sleep(PAUSE_S)


def _anywhere(settings: Settings) -> Settings:
    """Name folders so that a process of another working directory finds them."""
    file = settings.catalog_file
    return replace(
        settings,
        catalog_file=str(Path(file).absolute()) if file else "",
        cache_dir=str(settings.cache_path.absolute()),
        models_dir=str(settings.models_path.absolute()),
        loras_dir=str(settings.loras_path.absolute()),
    )


def _serves(settings: Settings, here: str) -> bool:
    """Tell whether there is an actor already, and the right one.

    Equal settings aren't enough: the same paths lead to other files on another node.
    """
    try:
        handle = ray.get_actor(NAME, namespace=NAMESPACE)
        asked = [handle.serves.remote(settings), handle.node_id.remote()]
        serves, node_id = ray.get(asked, timeout=GREET_S)
    except (RayError, ValueError, AttributeError):  # the last: of a version that tells no node
        return False
    return bool(serves) and node_id == here
