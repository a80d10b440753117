"""Load a worker, and remember what that took."""

import asyncio
import logging
import time
from collections.abc import Callable

from calotype.domain.model import ModelSpec
from calotype.errors import CalotypeError, ModelCrashedError
from calotype.execution.budget import MIB
from calotype.execution.history import History
from calotype.execution.worker import Worker, WorkerLostError
from calotype.observe import metrics

logger = logging.getLogger(__name__)


class Loader:
    """Loads workers.

    Args:
        make_worker: makes the worker of a model, not loaded yet.
        history: told how long loads took, and how large the workers are then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        make_worker: Callable[[ModelSpec], Worker],
        history: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_worker, self._history, self._clock = make_worker, history, clock

    async def load(self, model: ModelSpec) -> Worker:
        """Load a worker; one that is lost over it is loaded once more.

        Raises:
            CalotypeError: it can't be loaded.
        """
        started_s = self._clock()
        try:
            worker = await self._again(model)
        except CalotypeError:
            raise
        except Exception as error:
            raise ModelCrashedError(f"{model.id} can't be loaded: {error!r}") from error
        took_s, resident = self._clock() - started_s, worker.usage.resident_bytes
        self._history.loaded(model, took_s, resident)
        metrics.LOAD.labels(model.id).observe(took_s)
        size = f", {resident // MIB} MiB" if resident else ""
        precision = worker.traits.precision
        logger.info("loaded %s in %.2f s%s, precision %s", model.id, took_s, size, precision)
        return worker

    async def _again(self, model: ModelSpec) -> Worker:
        try:
            return await self._try(model)
        except WorkerLostError as error:
            logger.warning("%s; it is loaded once more", error)
            return await self._try(model)

    async def _try(self, model: ModelSpec) -> Worker:
        worker = self._make_worker(model)
        try:
            await worker.load()
        except BaseException:
            worker.kill()
            await asyncio.shield(worker.close())
            raise
        return worker
