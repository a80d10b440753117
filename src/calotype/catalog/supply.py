"""Models that are fetched from the Hub because a request names them."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from calotype.catalog import delivery, hub
from calotype.catalog.catalog import Catalog
from calotype.catalog.choice import choose
from calotype.catalog.scan import scan_models_dir
from calotype.catalog.schema import is_model_id
from calotype.domain.model import ModelSpec
from calotype.domain.text import printable
from calotype.errors import CalotypeError, MissingWeightsError, ModelLoadingError, UnknownModelError

logger = logging.getLogger(__name__)

Fetch = Callable[[str], list[ModelSpec]]
"""Fetches a repository's models; returns what can be served then."""

FAILED_S = 60.0
"""How long a repository that can't be fetched is not asked for again."""
MAX_FAILED = 1000
ESTIMATE_S = 60.0
"""What a client is told that a fetch takes; nobody knows."""


def fetch_models(id: str, folder: Path) -> list[ModelSpec]:
    """Fetch a repository into the models folder.

    Args:
        id: ``org/name``.
        folder: the models folder.

    Returns:
        All models of the folder.

    Raises:
        CalotypeError: it can't be had, or can't be served.
        OSError: the folder can't be written.
    """
    repository = hub.look_up(id)
    choices = choose(repository, partial(delivery.read, repository, folder=folder))
    delivery.fetch(repository, choices, folder, logger.info)
    return scan_models_dir(folder)


class Supply:
    """Fetches unknown models, one at a time; belongs to one event loop.

    Args:
        catalog: gets what was fetched.
        fetch: does it, on a thread.
        clock: monotonic seconds.
    """

    def __init__(
        self, catalog: Catalog, fetch: Fetch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog, self._fetch, self._clock = catalog, fetch, clock
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
            CalotypeError: it can't be fetched, or can't be served.
        """
        if id.count("/") != 1 or not is_model_id(id):
            raise unknown(id)
        self._check(id)
        if (task := self._running.get(id)) is None:
            task = self._running[id] = asyncio.create_task(self._pull(id), name=f"pull-{id}")
            task.add_done_callback(lambda _: self._running.pop(id, None))
        await asyncio.wait((task,), timeout=patience_s)
        if not task.done():
            text = f"Model {printable(id, 200)} is currently loading"
            raise ModelLoadingError(text, retry_after_s=ESTIMATE_S)
        self._check(id)
        return self._catalog.get(id)

    async def _pull(self, id: str) -> None:
        """Fetch a model, and remember how that ended."""
        async with self._turn:
            logger.info("fetching %s, which a request named", id)
            try:
                self._catalog.add(await _on_a_thread(partial(self._fetch, id)))
                self._catalog.get(id)
            except UnknownModelError:
                self._remember(id, unknown(id))
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


async def _on_a_thread(work: Callable[[], list[ModelSpec]]) -> list[ModelSpec]:
    """Work on a thread that doesn't keep the server from ending; whole files of it are kept."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[ModelSpec]] = loop.create_future()

    def settle(models: list[ModelSpec] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(models or [])

    def run() -> None:
        try:
            done: tuple[list[ModelSpec] | None, Exception | None] = (work(), None)
        except Exception as error:  # whatever it is, the one who waits is told
            done = (None, error)
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(settle, *done)

    threading.Thread(target=run, name="supply", daemon=True).start()
    return await answer


def unknown(id: str) -> UnknownModelError:
    """Return what is told of a model that nobody has; clients match its text."""
    return UnknownModelError(f"Model {printable(id, 200)} does not exist")
