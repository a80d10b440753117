"""The queue of one model: what waits, what runs next, who has left."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from calotype.domain.image import Image
from calotype.domain.request import Job, JobCancelledError, Outcome
from calotype.errors import CalotypeError, ModelCrashedError
from calotype.execution.policy import BatchLimits, Run, Waiting, next_batch
from calotype.execution.worker import Answer, Worker


@dataclass(slots=True, eq=False)
class _Place:
    """A job's place in the queue."""

    job: Job
    waiting: Waiting
    future: asyncio.Future[Outcome]


class Scheduler:
    """Feeds one worker; belongs to one event loop.

    Args:
        worker: runs the batches; loaded.
        slot: held while the worker runs, so that models share a device in turn.
        limits: bounds on a batch.
        observe: told the seconds that a job of a batch took.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        worker: Worker,
        slot: asyncio.Semaphore,
        limits: BatchLimits,
        observe: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._slot, self._limits = worker, slot, limits
        self._observe, self._clock = observe, clock
        self._queue: list[_Place] = []
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, job: Job) -> Outcome:
        """Queue a job and wait for its answer; a caller who leaves takes the job along.

        Raises:
            BackendError: the model failed on it.
        """
        waiting = Waiting(
            key=self._worker.batch_key(job),
            pixels=job.image.size.pixels,
            arrived_s=self._clock(),
        )
        place = _Place(job, waiting, asyncio.get_running_loop().create_future())
        self._queue.append(place)
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name=f"scheduler-{job.model.id}")
        try:
            return await place.future
        finally:
            if place in self._queue:
                self._queue.remove(place)
            if place.future.cancelled():
                job.hooks.cancel()

    def close(self) -> None:
        """Stop serving; what still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
        for place in self._queue:
            place.future.cancel()

    async def _serve(self) -> None:
        """Run batches until the queue is empty."""
        while self._queue:
            choice = next_batch([p.waiting for p in self._queue], self._limits, self._clock())
            if not isinstance(choice, Run):
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), choice.seconds)
                continue
            async with self._slot:
                # Whoever left while the device was busy is not in the queue any more: choose again.
                choice = next_batch([p.waiting for p in self._queue], self._limits, self._clock())
                if isinstance(choice, Run):
                    await self._run([self._queue[i] for i in choice.indices])

    async def _run(self, places: list[_Place]) -> None:
        """Run one batch and hand out its answers."""
        for place in places:
            self._queue.remove(place)
            place.job.hooks.start(place.job.deadline_s)
        started_s = self._clock()
        try:
            answers = await self._worker.run([place.job for place in places])
        except Exception as error:  # the worker itself broke: its jobs must know
            answers = [_crash(error)] * len(places)
        except asyncio.CancelledError:  # the scheduler was closed: nobody may wait for ever
            for place in places:
                place.job.hooks.cancel()
                place.future.cancel()
            raise
        took_s = self._clock() - started_s
        self._observe(took_s / len(places))
        for place, answer in zip(places, answers, strict=True):
            if not place.future.done():
                _settle(place, answer, started_s, took_s, len(places))


def _settle(
    place: _Place, answer: Answer, started_s: float, took_s: float, batch_size: int
) -> None:
    """Give a job its answer."""
    if isinstance(answer, Image):
        place.future.set_result(
            Outcome(
                image=answer,
                queue_s=started_s - place.waiting.arrived_s,
                inference_s=took_s,
                batch_size=batch_size,
            )
        )
    elif isinstance(answer, JobCancelledError):
        place.future.cancel()
    else:
        place.future.set_exception(answer)


def _crash(error: Exception) -> CalotypeError:
    crash = ModelCrashedError(repr(error))
    crash.__cause__ = error
    return crash
