"""The Runner over a cluster: each job goes to a replica of its model, and comes back once."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from grpc.aio import AioRpcError
from ray.exceptions import RayError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)
from ray.serve.handle import DeploymentHandle

from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.placement import SHARED, Deployment
from calotype.domain.request import Job, Outcome
from calotype.errors import (
    CalotypeError,
    ModelCrashedError,
    QueueFullError,
    RequestCancelledError,
    ShuttingDownError,
    UnknownModelError,
)
from calotype.execution.admission import Admission
from calotype.observe import metrics
from calotype.observe.logs import REQUEST_ID
from calotype.scale.cargo import Fact, Failed, Landed, News, Note, pack, size_bytes
from calotype.scale.loss import LOST, check_lost
from calotype.scale.numbers import ANSWER_S, merged, node_pages

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""Of a job whose replica was lost on the way, or was about to end."""
PAUSE_S = 0.05
"""Before the second attempt, at most; doubled before each further one."""
MAX_PAUSE_S = 2.0
LARGE_BYTES = 8 * 1024 * 1024
"""Pictures from here on go through shared memory and Ray's object store: below, messages are
quicker (4 ms against 6 for 512x512 pixels there and back), above they'd be held in memory twice."""
KNOWN_S = 1.0
"""How old may be what is told of a model before it is asked again."""
FIRST_SERVICE_S = 1.0
NEWEST = 0.1
"""Weight of the last job in what a job is expected to take."""


class RemoteRunner:
    """Sends jobs to the replicas of a cluster; belongs to one event loop.

    Args:
        deployments: what there is.
        handles: by name of the deployment.
        front: of the servers, this one among them.
        jobs: the most that may be in work from here, for each replica that there may be.
        picture_bytes: the most that the decoded pictures of all of them may take.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        handles: Mapping[str, DeploymentHandle[Any]],
        *,
        front: DeploymentHandle[Any],
        jobs: int,
        picture_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._homes = {spec.id: one for one in deployments for spec in one.models}
        self._handles, self._front, self._clock = dict(handles), front, clock
        most = sum(one.placement.replicas.most for one in deployments)
        self._admission = Admission(jobs=jobs * most, picture_bytes=picture_bytes, slots=most)
        self._known: dict[str, tuple[float, ModelStatus]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[tuple[str, str, bool], DeploymentHandle[Any]] = {}
        self._service_s = FIRST_SERVICE_S

    async def submit(self, job: Job) -> Outcome:
        """Run one job; a replica that is lost with it costs another attempt.

        Raises:
            ShuttingDownError: the server drains.
            QueueFullError: too much is in work, here or there.
            CalotypeError: as the pool of the replica does.
        """
        with self._admission.holding(job, self._service_s):
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(random.uniform(0.5, 1) * _pause_s(attempt))  # noqa: S311
                try:
                    return await self._try(job)
                except LOST as error:
                    check_lost(error)
                    metrics.RETRIES.labels(job.model.id).inc()
                    logger.warning("%s: a replica was lost: %r", job.model.id, error)
                except ShuttingDownError:
                    if self.draining:
                        raise
        raise ModelCrashedError(f"{job.model.id}: {ATTEMPTS} replicas in a row were lost")

    def check(self) -> None:
        """Refuse what can't be taken now.

        Raises:
            ShuttingDownError: the server drains.
            QueueFullError: too much is in work.
        """
        self._admission.check()

    def status(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model at one of its replicas; what is old is asked anew."""
        known_s, status = self._known.get(model.id, (-KNOWN_S, ModelStatus(state="unloaded")))
        if self._clock() - known_s >= KNOWN_S and model.id not in self._asking:
            asking = asyncio.get_running_loop().create_task(self._ask(model))
            self._asking[model.id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(model.id, None))
        return status

    async def load(self, model: ModelSpec) -> None:
        """Load a model at all replicas that may run it.

        Raises:
            CalotypeError: it can't be loaded.
        """
        for status in await self._all(model, "load"):
            if isinstance(status, CalotypeError):
                await self._ask(model)  # what is known is from before
                raise status
            self._learn(model, status)

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish at all replicas, and give their memory back."""
        await self._all(model, "unload")
        self._learn(model, ModelStatus(state="unloaded"))

    @property
    def draining(self) -> bool:
        """Whether no more work is taken."""
        return self._admission.draining

    def refuse(self) -> None:
        """Take no more jobs; those that are in go on."""
        self._admission.draining = True

    async def settle(self, grace_s: float) -> bool:
        """Wait until no job is left; False if some are after that many seconds."""
        return await self._admission.settle(grace_s)

    async def close(self) -> None:
        """Let go of the handles; the replicas are Ray's."""
        self.refuse()
        for task in tuple(self._asking.values()):
            task.cancel()

    def kill(self) -> None:
        """Do nothing: what runs there is Ray's to end."""

    async def numbers(self) -> bytes:
        """Return the metrics of all servers and replicas, and what Ray says of its nodes."""
        handles = (self._front, *self._handles.values())
        found, nodes = await asyncio.gather(
            asyncio.gather(*map(_pages, handles)), asyncio.to_thread(node_pages)
        )
        # A tenth of a second for each node: requests go on beside it.
        return await asyncio.to_thread(merged, dict(chain.from_iterable(found)), nodes)

    async def _try(self, job: Job) -> Outcome:
        """Run a job at one replica.

        Raises:
            RayError: it was lost.
            RayServeException: the same.
            CalotypeError: it failed.
        """
        async with contextlib.aclosing(self._news(job)) as news:
            async for one in news:
                match one:
                    case Landed(outcome=outcome, status=status):
                        self._learn(job.model, status)
                        self._service_s += NEWEST * (outcome.inference_s - self._service_s)
                        return outcome
                    case Failed(error=error, status=status):
                        self._learn(job.model, status)
                        raise error
                    case Note(text=text):
                        job.hooks.note(text)
                    case Fact(name=name, text=text):
                        job.hooks.tell(name, text)
                    case _:
                        job.hooks.happened(one)
        raise RayServeException("the replica ended without an answer")

    async def _news(self, job: Job) -> AsyncGenerator[News]:
        """Send a job, and yield what comes back; who leaves takes it along."""
        run = self._run_of(job.model, is_large=size_bytes(job) > LARGE_BYTES)
        response = run.remote(pack(job, REQUEST_ID.get()))
        is_over = False
        try:
            async for news in response:
                for one in news:
                    is_over = isinstance(one, Landed | Failed)
                    yield one
        except BackPressureError as error:
            raise QueueFullError(f"busy: {error}", retry_after_s=self._service_s) from error
        finally:
            if not is_over:
                response.cancel()

    def _run_of(self, model: ModelSpec, *, is_large: bool) -> DeploymentHandle[Any]:
        """Return what sends jobs of a model; where there is a choice, to who has it loaded."""
        home = self._home(model)
        shares = len(home.models) > 1 and home.placement.replicas.most > 1
        key = (home.name, model.id if shares else "", is_large)
        if (run := self._runs.get(key)) is None:
            handle = self._handles[home.name].options(
                stream=True, multiplexed_model_id=key[1], _by_reference=is_large
            )
            run = self._runs[key] = handle.run
        return run

    def _home(self, model: ModelSpec) -> Deployment:
        """Return where a model runs; one that came later runs with those that no entry names."""
        if (home := self._homes.get(model.id)) is not None:
            return home
        for one in self._homes.values():
            if one.name == SHARED:
                return one
        raise UnknownModelError(
            f"Model {model.name} has no place on this cluster; add it to cluster_models"
        )

    async def _ask(self, model: ModelSpec) -> None:
        """Ask one replica what is known about a model there; none is started for that."""
        with contextlib.suppress(RayError, RayServeException, AioRpcError, UnknownModelError):
            home = self._home(model)
            handle = self._handles[home.name]
            if home.placement.replicas.least:
                self._learn(model, await handle.state.remote(model))
                return
            found = ModelStatus(state="unloaded")
            with contextlib.suppress(DeploymentUnavailableError):
                answers = await handle.broadcast("state", model).results_async()
                found = max(answers, key=lambda status: status.state == "loaded")
            self._learn(model, found)

    def _learn(self, model: ModelSpec, status: ModelStatus) -> None:
        self._known[model.id] = (self._clock(), status)

    async def _all(self, model: ModelSpec, method: str) -> list[Any]:
        """Have all replicas of a model do something with it; to load it, one is started at least.

        Raises:
            RequestCancelledError: one was lost over it.
        """
        handle = self._handles[self._home(model).name]
        try:
            try:
                answers: list[Any] = await handle.broadcast(method, model).results_async()
            except DeploymentUnavailableError:
                answers = [await handle.load.remote(model)] if method == "load" else []
        except LOST as error:
            check_lost(error)
            raise RequestCancelledError(f"a replica of {model.name} was lost meanwhile") from error
        return answers


async def _pages(handle: DeploymentHandle[Any]) -> list[tuple[str, bytes]]:
    """Return the metrics of a deployment's replicas, by name, as far as they answer."""
    try:
        answers = handle.broadcast("numbers")
        pages = await answers.results_async(timeout_s=ANSWER_S, return_exceptions=True)
    except (RayServeException, TimeoutError):
        return []
    return [page for page in pages if isinstance(page, tuple)]


def _pause_s(attempt: int) -> float:
    return min(MAX_PAUSE_S, PAUSE_S * 2.0 ** (attempt - 1))
