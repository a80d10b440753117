"""Models that are fetched from the Hub because a request names them."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from calotype.catalog import delivery, hub
from calotype.catalog.catalog import Catalog, unknown_model
from calotype.catalog.choice import choose
from calotype.catalog.scan import scan_models_dir
from calotype.catalog.schema import is_model_id
from calotype.domain.model import ModelSpec
from calotype.errors import (
    CalotypeError,
    ForbiddenError,
    MissingWeightsError,
    ModelLoadingError,
    QueueFullError,
    UnknownModelError,
)

logger = logging.getLogger(__name__)

Deliver = Callable[[], list[ModelSpec]]
"""Fetches a repository's models; returns what can be served then."""
Find = Callable[[str], Deliver]
"""Asks the Hub what a repository holds; returns what fetches it."""

Made = TypeVar("Made")

MAX_WAITING = 16
"""Names that may be asked for or fetched at the same time."""

FAILED_S = 60.0
"""How long a repository that can't be fetched is not asked for again."""
MAX_FAILED = 1000
ESTIMATE_S = 60.0
"""What a client is told that a fetch takes; nobody knows."""


def find_models(id: str, folder: Path) -> Deliver:
    """Ask the Hub what a repository holds.

    Args:
        id: ``org/name``.
        folder: the models folder.

    Returns:
        What fetches it into the folder, and returns all models that are there then.

    Raises:
        CalotypeError: it can't be had, or can't be served.
        OSError: the folder can't be written.
    """
    repository = hub.look_up(id)
    choices = choose(repository, partial(delivery.read, repository, folder=folder))
    if all(choice.kind == "adapter" for choice in choices):
        raise ForbiddenError(
            f"{id} is an adapter, for the parameter loras of a model: calotype pull {id}"
        )

    def deliver() -> list[ModelSpec]:
        delivery.fetch(repository, choices, folder, logger.info)
        return scan_models_dir(folder)

    return deliver


class Supply:
    """Fetches unknown models, one at a time; belongs to one event loop.

    Args:
        catalog: gets what was fetched.
        find: tells on a thread whether there is such a model, while others are being fetched.
        clock: monotonic seconds.
    """

    def __init__(
        self, catalog: Catalog, find: Find, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog, self._find, self._clock = catalog, find, clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[CalotypeError, float]] = {}
        self._turn = asyncio.Lock()

    async def pull(self, id: str, patience_s: float) -> ModelSpec:
        """Return a model that the catalog didn't have, fetching it first.

        Args:
            id: as a request names it.
            patience_s: how long the request waits; the fetch goes on without it.

        Raises:
            UnknownModelError: the Hub has no such model either, or it can't be one's name.
            ModelLoadingError: it is being fetched.
            QueueFullError: too many are.
            CalotypeError: it can't be fetched, or can't be served.
        """
        if id.count("/") != 1 or not is_model_id(id):
            raise unknown_model(id)
        self._check(id)
        if (task := self._running.get(id)) is None:
            if len(self._running) >= MAX_WAITING:
                raise QueueFullError(
                    f"{MAX_WAITING} models are being fetched already", retry_after_s=ESTIMATE_S
                )
            task = self._running[id] = asyncio.create_task(self._pull(id), name=f"pull-{id}")
            task.add_done_callback(lambda _: self._running.pop(id, None))
        await asyncio.wait((task,), timeout=patience_s)
        if not task.done():
            text = f"Model {id} is currently loading"
            raise ModelLoadingError(text, retry_after_s=ESTIMATE_S)
        self._check(id)
        return self._catalog.get(id)

    async def _pull(self, id: str) -> None:
        """Fetch a model, and remember how that ended."""
        try:
            deliver = await _on_a_thread(partial(self._find, id))
            async with self._turn:
                logger.info("fetching %s, which a request named", id)
                self._catalog.add(await _on_a_thread(deliver))
            self._catalog.get(id)
        except UnknownModelError:
            self._remember(id, unknown_model(id))
        except CalotypeError as error:
            logger.warning("%s can't be fetched: %s", id, error)
            self._remember(id, error)
        except Exception as error:
            logger.exception("%s can't be fetched", id)
            reason = getattr(error, "strerror", None) or "the server's log says why"
            self._remember(id, MissingWeightsError(f"{id} can't be fetched: {reason}"))

    def _remember(self, id: str, error: CalotypeError) -> None:
        if len(self._failed) >= MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        self._failed[id] = (error, self._clock() + FAILED_S)

    def _check(self, id: str) -> None:
        """Refuse what failed not long ago."""
        error, until_s = self._failed.get(id, (None, 0.0))
        if error is not None and self._clock() < until_s:
            raise type(error)(str(error))
        self._failed.pop(id, None)


async def _on_a_thread(work: Callable[[], Made]) -> Made:
    """Work on a thread that doesn't keep the server from ending; whole files of it are kept."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Made] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not answer.done():
            act()

    def run() -> None:
        try:
            act = partial(answer.set_result, work())
        except Exception as error:  # whatever it is, the one who waits is told
            act = partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(settle, act)

    threading.Thread(target=run, name="supply", daemon=True).start()
    return await answer
