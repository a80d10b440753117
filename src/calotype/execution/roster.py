"""Which models are loaded: loads them, makes room for them, lets them go."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from calotype.domain.model import ModelSpec
from calotype.errors import ForbiddenError, ModelLoadingError, shutting_down
from calotype.execution.backoff import BackOff
from calotype.execution.budget import MIB
from calotype.execution.crew import Crew
from calotype.execution.history import History
from calotype.execution.loader import Loader
from calotype.execution.worker import Worker
from calotype.observe import metrics

logger = logging.getLogger(__name__)

LET_PASS = 3
"""Turns of the event loop."""
LOOK_EVERY_S = 5.0
"""How often idle models and the memory of all are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the loaded models may take."""

    budget_bytes: int
    """Memory of all workers together."""
    pinned: frozenset[str] = frozenset()
    """Ids of models that stay once they are loaded."""
    idle_s: float = 0.0
    """A model that nobody asked for this long is unloaded; 0: never."""
    replicas: int = 1
    """The most workers of a model."""


class Roster:
    """The crews of all loaded models; belongs to one event loop.

    Args:
        make_worker: makes the worker of a model, not loaded yet.
        history: what was measured before.
        bounds: what the models may take.
        on_change: called when a worker is free, or one was lost.
        on_failure: called with a crew that will not be, and why.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        make_worker: Callable[[ModelSpec], Worker],
        history: History,
        bounds: Bounds,
        *,
        on_change: Callable[[], None],
        on_failure: Callable[[Crew, Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history, self._bounds = history, bounds
        self._loader = Loader(make_worker, history, clock)
        self._on_change, self._on_failure, self._clock = on_change, on_failure, clock
        self._crews: dict[str, Crew] = {}
        self._leaving: set[Crew] = set()
        self._used_s: dict[str, float] = {}
        self._began_s: dict[str, float] = {}
        self._reserved: dict[Crew, tuple[int, asyncio.Future[None]]] = {}
        self._room = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.rest = BackOff(clock)

    def find(self, model: ModelSpec) -> Crew | None:
        """Return the model's crew, if it has one."""
        return self._crews.get(model.id)

    def crew(self, model: ModelSpec) -> Crew:
        """Return the model's crew, beginning to load it if it has none.

        Raises:
            ForbiddenError: the model doesn't fit.
            CalotypeError: it failed not long ago.
            ShuttingDownError: the roster is closed.
        """
        self.check_open()
        self._used_s[model.id] = self._clock()
        crew = self._crews.get(model.id)
        if crew is None:
            self.rest.check(model)
            self.check_size(model)
            crew = self._crews[model.id] = Crew(model, self._hire, self, self._bounds.replicas)
            self._began_s[model.id] = self._clock()
            crew.want()
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep(), name="roster")
        return crew

    def check_open(self) -> None:
        """Refuse everything once the roster is closed.

        Raises:
            ShuttingDownError: it is.
        """
        if self._closed:
            raise shutting_down()

    def check_size(self, model: ModelSpec) -> None:
        """Refuse a model that can't fit, whatever is unloaded for it.

        Raises:
            ForbiddenError: it can't.
        """
        others = [c for c in self._crews.values() if self._stays(c) and c.model.id != model.id]
        pinned = sum(crew.resident_bytes for crew in others)
        # Before it was measured only its weights are sure.
        need = self._history.measured_bytes(model) or model.size_bytes
        if need + pinned > self._bounds.budget_bytes:
            beside = f", {pinned // MIB} MiB of it pinned" if pinned else ""
            raise ForbiddenError(
                f"Model {model.name} is too large: it needs {-(-need // MIB)} MiB, and the memory"
                f" budget is {self._bounds.budget_bytes // MIB} MiB{beside}"
            )

    def room_bytes(self, crew: Crew) -> int:
        """Return what one of a crew's workers may take once nothing else is loaded but pins."""
        others = sum(c.resident_bytes for c in self._crews.values() if self._stays(c))
        others -= crew.resident_bytes if self._stays(crew) else 0
        return self._bounds.budget_bytes - others

    def load_began_s(self, model: ModelSpec) -> float:
        """Return when the model's load began, on the clock."""
        return self._began_s[model.id]

    async def free(self, need_bytes: int, keep: Crew | None) -> None:
        """Unload models that have nothing to do until a crew has that much more memory."""
        while self._taken() + need_bytes > self._bounds.budget_bytes:
            victim = self._victim(keep)
            if victim is None or victim.jobs:
                return  # to wait for a busy one could mean that it waits for us
            await self._let_go(victim, "memory")

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish, and give its memory back; a load is cut short."""
        crew = self._crews.get(model.id)
        if crew is not None:
            await self._let_go(crew, "operator", at_once=not crew.workers)

    async def close(self) -> None:
        """End all workers now."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        crews = [*self._crews.values(), *self._leaving]
        self._crews.clear()
        await asyncio.gather(*(crew.dismiss() for crew in crews))

    def kill(self) -> None:
        """End all workers at once."""
        for crew in (*self._crews.values(), *self._leaving):
            crew.kill()

    def changed(self, crew: Crew) -> None:
        """A worker is free that wasn't, or one was lost."""
        if crew.is_gone:
            self._discard(crew)
        self._on_change()
        self._show()

    def failed(self, crew: Crew, error: Exception) -> None:
        """No worker could be loaded: the model rests, and those who wait are told."""
        metrics.LOAD_FAILURES.labels(crew.model.id).inc()
        self.give_up(crew, error)

    def give_up(self, crew: Crew, error: Exception) -> None:
        """Let a model rest, and tell those who wait for it."""
        if not isinstance(error, ForbiddenError):
            delay_s = self.rest.failed(crew.model, error)
            if error.__cause__ is not None:
                logger.error("%s failed", crew.model.id, exc_info=error.__cause__)
            logger.error("%s rests for %.0f s: %s", crew.model.id, delay_s, error)
        self._on_failure(crew, error)
        self._discard(crew)

    async def _hire(self, crew: Crew) -> Worker:
        """Load a worker, once there is room."""
        model = crew.model
        async with self._reserving(crew):
            worker = await self._loader.load(model)
        try:
            self.check_size(model)
        except ForbiddenError:
            await worker.close()
            raise
        self.rest.succeeded(model)
        return worker

    @contextlib.asynccontextmanager
    async def _reserving(self, crew: Crew) -> AsyncIterator[None]:
        """Make room for a worker, and keep it while the worker is being loaded.

        Raises:
            ModelLoadingError: the crew has workers, and others would have to go for one more.
        """
        need = self._history.resident_bytes(crew.model)
        # A model that leaves and lost its worker is what others wait for: it waits for nobody.
        if crew not in self._leaving:
            async with self._room:
                await self._make_room(need, crew)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reserved[crew] = (need, done)
        try:
            yield
        finally:
            del self._reserved[crew]
            done.set_result(None)

    async def _make_room(self, need: int, crew: Crew) -> None:
        """Unload models until another has room; busy ones after their jobs."""
        while self._taken() + need > self._bounds.budget_bytes:
            if crew.workers:
                raise ModelLoadingError(f"there is no room for more of {crew.model.id}")
            for _ in range(LET_PASS):
                await asyncio.sleep(0)  # who waited for a model uses it before it goes
            if (victim := self._victim(crew)) is not None:
                await self._let_go(victim, "memory")
            elif loading := [done for _, done in self._reserved.values()]:
                await asyncio.wait(loading, return_when=asyncio.FIRST_COMPLETED)
            else:
                return  # it fits by what was known; what it really takes will be measured

    def _taken(self) -> int:
        """Return the memory of all workers, those included that are being loaded."""
        crews = (*self._crews.values(), *self._leaving)
        reserved = sum(need for need, _ in self._reserved.values())
        return reserved + sum(crew.resident_bytes for crew in crews)

    def _victim(self, keep: Crew | None) -> Crew | None:
        """Return what to unload: the least recently used, those without jobs first."""
        found = [c for c in self._crews.values() if c is not keep and c.workers]
        found = [c for c in found if not self._stays(c)]
        return min(found, key=lambda c: (c.jobs > 0, self._used_s[c.model.id]), default=None)

    def _stays(self, crew: Crew) -> bool:
        return crew.model.id in self._bounds.pinned

    async def _let_go(self, crew: Crew, reason: str, *, at_once: bool = False) -> None:
        """Unload a model once its jobs are done; new ones load it anew."""
        self._forget(crew, reason)
        self._leaving.add(crew)
        try:
            await (crew.dismiss() if at_once else crew.close())
        finally:
            self._leaving.discard(crew)
        logger.info("unloaded %s (%s)", crew.model.id, reason)
        self._show()

    def _discard(self, crew: Crew) -> None:
        """Let a model go that has crashed, with whatever of it is still on its way."""
        if self._crews.get(crew.model.id) is crew:
            self._forget(crew, "crash")
            self._leaving.add(crew)
            task = asyncio.create_task(crew.close(), name=f"close-{crew.model.id}")
            task.add_done_callback(lambda _: self._leaving.discard(crew))

    def _forget(self, crew: Crew, reason: str) -> None:
        del self._crews[crew.model.id]
        metrics.RESIDENT.labels(crew.model.id).set(0)
        metrics.UNLOADS.labels(crew.model.id, reason).inc()

    async def _keep(self) -> None:
        """Unload what is idle, and what grew beyond the budget."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look once at what is idle and at the memory of all."""
        self._show()
        now_s, idle_s = self._clock(), self._bounds.idle_s
        for crew in tuple(self._crews.values()):
            if self.find(crew.model) is not crew:
                continue  # it left while another one was waited for
            unused_s = now_s - self._used_s[crew.model.id]
            idle = bool(crew.workers) and not crew.jobs and not self._stays(crew)
            if idle and idle_s and unused_s >= idle_s:
                await self._let_go(crew, "idle")
        await self.free(0, keep=None)

    def _show(self) -> None:
        """Tell the numbers."""
        metrics.LOADED.set(sum(bool(crew.workers) for crew in self._crews.values()))
        for crew in self._crews.values():
            metrics.RESIDENT.labels(crew.model.id).set(crew.resident_bytes)
