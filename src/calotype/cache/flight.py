"""Identical work in flight, done once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from calotype.domain.event import Entered, Event, Preview
from calotype.domain.hooks import Hooks
from calotype.errors import DeadlineExceededError

T = TypeVar("T")


class Flights(Protocol[T]):
    """Computes once for all the callers that ask for the same key at the same time."""

    async def run(
        self, key: str, compute: Callable[[Hooks], Awaitable[T]], hooks: Hooks
    ) -> tuple[T, bool]:
        """Return the computation's result, and whether it was another caller's computation."""
        ...


class _Crowd:
    """Those who wait for one computation, each told what happens to it; thread-safe."""

    def __init__(self) -> None:
        self._told: tuple[Hooks, ...] = ()
        self._stage: Event | None = None
        self._last: Event | None = None
        self.hooks = Hooks(on_event=self._tell)

    def __len__(self) -> int:
        return len(self._told)

    def enter(self, hooks: Hooks) -> None:
        """Tell another caller, from the last that happened on."""
        self._told = (*self._told, hooks)
        for event in (self._stage, self._last):
            if event is not None:
                hooks.happened(event)

    def leave(self, hooks: Hooks) -> None:
        """Tell a caller nothing more."""
        self._told = tuple(each for each in self._told if each is not hooks)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Entered):
            self._stage = event
        elif not isinstance(event, Preview):  # which says nothing of the state
            self._last = event
        for hooks in self._told:
            hooks.happened(event)


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    """One computation, and the callers that wait for it."""

    task: asyncio.Task[T]
    crowd: _Crowd


class SingleFlight(Generic[T]):
    """Compute once for all the callers that ask for the same key at the same time.

    The computation runs in a task of its own, so that it outlives the caller who began it for as
    long as anyone waits for it. It belongs to one event loop: what happens between two awaits
    needs no lock.

    A follower waits under no deadline but its own: put ``asyncio.timeout`` around ``run``.

    Args:
        retry_on: errors that say something of the leader's own request alone, such as its
            deadline; a follower starts over instead of inheriting one.
    """

    def __init__(self, retry_on: tuple[type[Exception], ...] = (DeadlineExceededError,)) -> None:
        self._retry_on = retry_on
        self._flights: dict[str, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(
        self, key: str, compute: Callable[[Hooks], Awaitable[T]], hooks: Hooks
    ) -> tuple[T, bool]:
        """Return the computation's result, and whether it was another caller's computation.

        Args:
            key: equal for equal work.
            compute: called at most once, and only if nobody else computes this key. Whatever
                happens to its hooks is told to all who wait for it.
            hooks: told.

        Raises:
            Exception: whatever the computation raised.
            asyncio.CancelledError: this caller was cancelled; the others go on. If it was the
                last one, the computation has been cancelled and has ended.
        """
        while True:
            flight = self._flights.get(key)
            shared = flight is not None
            if flight is None:
                flight = self._start(key, compute)
            await self._wait(key, flight, hooks)
            if not shared or not self._is_leaders_own(flight.task):
                return flight.task.result(), shared

    def _start(self, key: str, compute: Callable[[Hooks], Awaitable[T]]) -> _Flight[T]:
        crowd = _Crowd()

        async def fly() -> T:
            return await compute(crowd.hooks)

        def land(task: asyncio.Task[T]) -> None:
            self._drop(key, flight)
            # The last caller may be cancelled in the very step in which the task fails: nobody is
            # left to look at the error then, and asyncio would complain.
            if not task.cancelled():
                task.exception()

        flight = _Flight(asyncio.create_task(fly(), name=f"flight-{key}"), crowd)
        # The first callback: a follower that starts over finds the key free.
        flight.task.add_done_callback(land)
        self._flights[key] = flight
        return flight

    async def _wait(self, key: str, flight: _Flight[T], hooks: Hooks) -> None:
        """Wait for the end of a flight, without the cancellation of one caller ending it."""
        flight.crowd.enter(hooks)
        try:
            await asyncio.wait((flight.task,))
        except asyncio.CancelledError:
            if len(flight.crowd) == 1 and not flight.task.done():
                self._drop(key, flight)  # it takes no passengers any more
                await _stop(flight.task)
            raise
        finally:
            flight.crowd.leave(hooks)

    def _is_leaders_own(self, task: asyncio.Task[T]) -> bool:
        return task.cancelled() or isinstance(task.exception(), self._retry_on)

    def _drop(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _stop(task: asyncio.Task[T]) -> None:
    """Cancel a task and wait until it has cleaned up.

    Further cancellations of the caller don't cut that short, for anyio's cancel scopes repeat
    theirs until they are obeyed; the caller raises CancelledError afterwards anyway.
    """
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            continue
