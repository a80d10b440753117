"""A worker for whose model, and for whose jobs, this node gets the files first."""

import asyncio
from collections.abc import Callable, Sequence

from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, Loras
from calotype.errors import CalotypeError
from calotype.execution.worker import Answer, Traits, Usage, Worker
from calotype.scale.weights import NodeWeights

MakeWorker = Callable[[ModelSpec], Worker]


def localizing(make: MakeWorker, weights: NodeWeights) -> MakeWorker:
    """Return what makes workers as ``make`` does, with files of this node.

    Args:
        make: what makes a worker of a model whose files are here; its adapters are looked for
            in ``weights.adapters_dir``.
        weights: of the node.
    """
    return lambda spec: LocalizedWorker(spec, make, weights)


class LocalizedWorker:
    """A worker that is made once its model's files are here.

    Args:
        spec: the model, with the files of the node that read the catalog.
        make: makes the worker proper.
        weights: of this node.
    """

    def __init__(self, spec: ModelSpec, make: MakeWorker, weights: NodeWeights) -> None:
        self._spec, self._make, self._weights = spec, make, weights
        self._worker: Worker | None = None

    @property
    def traits(self) -> Traits:
        """See ``Worker``."""
        return self._made.traits

    @property
    def usage(self) -> Usage:
        """See ``Worker``."""
        return self._made.usage

    @property
    def ended(self) -> "asyncio.Future[None]":
        """See ``Worker``."""
        return self._made.ended

    @property
    def _made(self) -> Worker:
        if self._worker is None:
            raise ValueError("the worker was asked before it was loaded")
        return self._worker

    async def load(self) -> None:
        """See ``Worker``."""
        spec = await asyncio.to_thread(self._weights.localize, self._spec)
        self._worker = self._make(spec)
        await self._worker.load()

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """See ``Worker``."""
        refused: dict[int, Answer] = {}
        for i, job in enumerate(jobs):
            if isinstance(loras := job.params.get("loras"), Loras) and loras.scales:
                ids = [adapter for adapter, _ in loras.scales]
                try:
                    await asyncio.to_thread(self._weights.bring_adapters, ids)
                except CalotypeError as error:
                    refused[i] = error
        if not refused:
            return await self._made.run(jobs)
        left = [job for i, job in enumerate(jobs) if i not in refused]
        answers = iter(await self._made.run(left) if left else ())
        return [refused[i] if i in refused else next(answers) for i in range(len(jobs))]

    async def close(self) -> None:
        """See ``Worker``."""
        if self._worker is not None:
            await self._worker.close()

    def kill(self) -> None:
        """See ``Worker``."""
        if self._worker is not None:
            self._worker.kill()
