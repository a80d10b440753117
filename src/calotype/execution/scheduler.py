"""The queue of one device: what waits, what runs next, who has left."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from calotype.domain.deadline import on_loop
from calotype.domain.request import Job, Outcome
from calotype.errors import DeadlineExceededError
from calotype.execution.crew import Crew
from calotype.execution.place import Place, crash_of
from calotype.execution.policy import BatchLimits, Run, Waiting, fair_order, next_batch
from calotype.execution.worker import Worker, WorkerLostError
from calotype.observe import metrics

KNOWN_CALLERS = 1000
NEAR_PLACES = 100
"""Those who stand further behind are told where only once."""
MAX_ATTEMPTS = 2
"""Runs of a job whose worker is lost over it."""


class Watcher(Protocol):
    """Who is told how runs went."""

    def limits(self, crew: Crew) -> BatchLimits:
        """Return the bounds on a batch of a crew's jobs."""
        ...

    def expected_s(self, job: Job) -> float:
        """Return how long a job would run."""
        ...

    def ran(self, crew: Crew, worker: Worker, jobs: Sequence[Job], seconds: float) -> None:
        """Note that a batch ran to its end."""
        ...

    def gave_up(self, crew: Crew, error: Exception) -> None:
        """Note that a job took its workers along as often as it may."""
        ...


@dataclass(slots=True, eq=False)
class Scheduler:
    """Shares a device between jobs of all models; belongs to one event loop.

    Args:
        watcher: told how runs went; knows what is expected of them.
        slots: batches that run at the same time.
        priorities: by name of the token; 0 for others.
        clock: monotonic seconds.
    """

    watcher: Watcher
    slots: int = 1
    priorities: Mapping[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _queue: list[Place] = field(default_factory=list)
    _running: dict[asyncio.Task[None], list[Place]] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    _turn: int = 0
    _timer: asyncio.TimerHandle | None = None
    _telling: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        """Batches that run."""
        return len(self._running)

    async def submit(self, job: Job, crew: Crew) -> Outcome:
        """Queue a job and wait for its answer; a caller who leaves takes the job along.

        Raises:
            BackendError: the model failed on it.
            DeadlineExceededError: it was still waiting, or running, at its deadline.
        """
        waiting = Waiting(
            key=crew.key(job),
            pixels=job.image.size.pixels,
            arrived_s=self.clock(),
            caller=job.caller,
            priority=self.priorities.get(job.caller, 0),
        )
        place = Place(job, crew, waiting, asyncio.get_running_loop().create_future())
        self._queue.append(place)
        self.wake()
        try:
            async with asyncio.timeout_at(on_loop(job.deadline_s)):
                return await place.future
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the picture was done") from None
        finally:
            self._leave(place)

    def wake(self) -> None:
        """Start what can run now."""
        while len(self._running) < self.slots and (places := self._next()):
            for place in places:
                self._queue.remove(place)
            crew = places[0].crew
            task = asyncio.create_task(self._serve(crew, crew.take(), places))
            self._running[task] = places
            task.add_done_callback(self._served)
        self._tell_places()

    def fail(self, crew: Crew, error: Exception) -> None:
        """Answer all that wait for a crew that will not be."""
        for place in [place for place in self._queue if place.crew is crew]:
            self._queue.remove(place)
            place.refuse(error)

    async def close(self) -> None:
        """Stop serving; what waits or runs is cancelled."""
        for place in [*self._queue, *(p for places in self._running.values() for p in places)]:
            place.job.hooks.cancel()
            place.future.cancel()
        self._queue.clear()
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _next(self) -> list[Place]:
        """Return the batch that should run now; whoever waits for a worker gets one hired."""
        ready = []
        for place in self._queue:
            if place.crew.has_free:
                ready.append(place)
            else:
                place.crew.want()
        if not ready:
            return []
        now_s = self.clock()
        order = fair_order([place.waiting for place in ready], self._turns, now_s)
        ready = [ready[i] for i in order]
        limits = self.watcher.limits(ready[0].crew)
        choice = next_batch([place.waiting for place in ready], limits, now_s)
        if isinstance(choice, Run):
            places = [ready[i] for i in choice.indices]
            self._take_turn(places[0].waiting.caller)
            return places
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(choice.seconds, self.wake)
        return []

    def _tell_places(self) -> None:
        """Tell those who wait where they stand, once this turn of the loop is over."""
        if self._queue and self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self._tell_places_now)

    def _tell_places_now(self) -> None:
        self._telling = None
        order = fair_order([place.waiting for place in self._queue], self._turns, self.clock())
        for number, index in enumerate(order, start=1):
            place = self._queue[index]
            # Far behind, a few places more or less are no news.
            if number <= NEAR_PLACES or not place.number:
                place.stands(number)

    def _take_turn(self, caller: str) -> None:
        """Note whose turn it was; of very many callers, those who had theirs last are known."""
        self._turn += 1
        self._turns.pop(caller, None)
        self._turns[caller] = self._turn
        if len(self._turns) > KNOWN_CALLERS:
            del self._turns[next(iter(self._turns))]

    def _leave(self, place: Place) -> None:
        """Clear up after a caller, who may not have waited for the answer."""
        if place in self._queue:
            self._queue.remove(place)
            self._tell_places()
        if place.future.done() and not place.future.cancelled():
            return
        saved_s = self._left_s(place)
        place.job.hooks.cancel()
        place.future.cancel()
        metrics.SAVED.labels(place.job.model.id).inc(saved_s)

    def _left_s(self, place: Place) -> float:
        """Return how long a job would have run on."""
        expected_s = self.watcher.expected_s(place.job)
        if not place.started_s:
            return expected_s
        ran_s = self.clock() - place.started_s
        done, total = place.job.hooks.progress
        return ran_s / done * (total - done) if done else max(0.0, expected_s - ran_s)

    def _served(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled():
            task.result()
            self.wake()

    async def _serve(self, crew: Crew, worker: Worker, places: list[Place]) -> None:
        """Run one batch and hand out its answers."""
        places = [place for place in places if not place.future.done()]
        if not places:
            crew.give_back(worker)
            return
        started_s = self.clock()
        for place in places:
            place.start(started_s)
        jobs = [place.job for place in places]
        with self._answering(places):
            try:
                answers = await worker.run(jobs)
            except WorkerLostError as error:
                crew.lose(worker)
                self._retry(places, error)
                return
            except Exception:  # on our side of the worker, which is none the worse for it
                crew.give_back(worker)
                raise
            crew.give_back(worker)
            took_s = self.clock() - started_s
            self.watcher.ran(crew, worker, jobs, took_s)
            for place, answer in zip(places, answers, strict=True):
                place.settle(answer, took_s, len(places))

    @contextlib.contextmanager
    def _answering(self, places: list[Place]) -> Iterator[None]:
        """Leave nobody waiting, whatever happens."""
        try:
            yield
        except Exception as error:
            for place in places:
                place.refuse(crash_of(error))
        finally:
            for place in places:
                if place not in self._queue:
                    place.future.cancel()

    def _retry(self, places: list[Place], error: WorkerLostError) -> None:
        """Queue the jobs of a lost worker again, each alone; who had that already fails."""
        again = []
        for place in places:
            if place.future.done():
                continue
            if place.attempts >= MAX_ATTEMPTS:
                crash = crash_of(error)
                place.refuse(crash)
                self.watcher.gave_up(place.crew, crash)
                continue
            metrics.RETRIES.labels(place.job.model.id).inc()
            if error.out_of_memory and place.crew.traits:
                shrink = min(place.job.shrink + 1, place.crew.traits.shrinks)
                place.job = replace(place.job, shrink=shrink)
            place.waiting = replace(place.waiting, alone=True)
            place.started_s, place.job.hooks.progress = 0.0, (0, 0)
            again.append(place)
        self._queue[:0] = again
