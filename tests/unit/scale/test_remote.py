"""Jobs that are sent away come back once, whatever becomes of the replicas."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

from api.server import until
from calotype.domain.event import Event, Progress, Started
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.placement import Bounds, Deployment, Placement
from calotype.domain.request import Job, Outcome
from calotype.errors import (
    BadOutputError,
    MissingWeightsError,
    ModelCrashedError,
    ModelLoadingError,
    QueueFullError,
    ShuttingDownError,
    UnknownModelError,
)
from calotype.observe.metrics import REGISTRY
from calotype.scale.cargo import Cargo, Fact, Failed, Landed, News, Note
from calotype.scale.remote import ATTEMPTS, RemoteRunner

MODEL = ModelSpec(id="test/echo", backend="fake", revision="1")
LOADED = ModelStatus(state="loaded", precision="none")
Script = Callable[[Cargo], AsyncIterator[News]]


def job(**values: Any) -> Job:  # noqa: ANN401
    image = Image(np.full((4, 6, 3), 7, np.uint8))
    return Job(model=MODEL, image=image, params={"mask": b"encoded", "scale": 2}, **values)


def landed(cargo: Cargo) -> Landed:
    return Landed(outcome=Outcome(image=cargo.image, inference_s=0.5), status=LOADED)


async def echo(cargo: Cargo) -> AsyncIterator[News]:
    yield landed(cargo)


class Response:
    def __init__(self, handle: "Handle", news: AsyncIterator[News]) -> None:
        self._handle, self._news = handle, news

    async def __aiter__(self) -> AsyncIterator[list[News]]:
        async for one in self._news:
            yield [one]

    def cancel(self) -> None:
        self._handle.cancelled += 1


class Handle:
    """Stands in for Ray's: each call plays the next script, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts: Iterator[Script] = iter(scripts)
        self._script: Script = echo
        self.sent: list[Cargo] = []
        self.chosen: list[dict[str, Any]] = []
        self.cancelled = 0
        self.called: list[str] = []
        self.replicas: list[Any] | Exception = [LOADED]
        self.state = SimpleNamespace(remote=self._state)
        self.known = LOADED

    async def _state(self, model: ModelSpec) -> ModelStatus:
        del model
        return self.known

    def options(self, **chosen: Any) -> "Handle":  # noqa: ANN401
        self.chosen.append(chosen)
        return self

    @property
    def run(self) -> "Handle":
        return self

    def remote(self, cargo: Cargo) -> Response:
        self.sent.append(cargo)
        self._script = next(self._scripts, self._script)
        return Response(self, self._script(cargo))

    def broadcast(self, method: str, *args: object) -> "Handle":
        del args
        self.called.append(method)
        return self

    async def results_async(self, **limits: object) -> list[Any]:
        del limits
        if isinstance(self.replicas, Exception):
            raise self.replicas
        return self.replicas


def runner(handle: Handle, jobs: int = 8, *models: ModelSpec, replicas: int = 1) -> RemoteRunner:
    placement = Placement(replicas=Bounds(least=replicas, most=replicas))
    home = Deployment(name="home", models=models or (MODEL,), placement=placement)
    return RemoteRunner(
        [home],
        {"home": handle},
        front=Handle(),
        jobs=jobs,
        picture_bytes=1_000_000,
    )


def failing(error: BaseException) -> Script:
    async def fail(cargo: Cargo) -> AsyncIterator[News]:
        yield Started()
        raise error

    return fail


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calotype.scale.remote.PAUSE_S", 0.0)


async def test_a_job_goes_without_what_stays_here() -> None:
    handle = Handle()
    outcome = await runner(handle).submit(job(deadline_s=time.monotonic() + 5, caller="ann"))
    assert outcome.image.pixels[0, 0, 0] == 7
    (cargo,) = handle.sent
    assert cargo.params == {"scale": 2}
    assert 4 < cargo.left_s <= 5
    assert cargo.caller == "ann"
    assert handle.chosen[0]["multiplexed_model_id"] == ""
    assert not handle.chosen[0]["_by_reference"]
    assert handle.cancelled == 0


async def test_models_that_share_replicas_go_where_they_are_loaded() -> None:
    handle = Handle()
    other = ModelSpec(id="test/other", backend="fake", revision="1")
    await runner(handle, 8, MODEL, other).submit(job())
    assert handle.chosen[0]["multiplexed_model_id"] == "", "with one replica there is no choice"
    await runner(handle, 8, MODEL, other, replicas=2).submit(job())
    assert handle.chosen[1]["multiplexed_model_id"] == MODEL.id


async def test_large_pictures_go_through_the_object_store() -> None:
    handle = Handle()
    large = Image(np.zeros((1200, 1200, 3), np.uint8))  # the result is four times that
    await runner(handle).submit(Job(model=MODEL, image=large, params={"scale": 2}))
    assert handle.chosen[0]["_by_reference"]


async def test_what_happens_there_is_told_here() -> None:
    async def tell(cargo: Cargo) -> AsyncIterator[News]:
        for news in (Started(), Progress(1, 2), Note("limits; clamped"), Fact("tile", "64")):
            yield news
        yield landed(cargo)

    heard: list[Event] = []
    hooks = Hooks(on_event=heard.append)
    await runner(Handle(tell)).submit(job(hooks=hooks))
    assert heard == [Started(), Progress(1, 2)]
    assert hooks.notes == ("limits; clamped",)
    assert hooks.facts == {"tile": "64"}


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        DeploymentUnavailableError.__new__(DeploymentUnavailableError),
        AioRpcError(StatusCode.CANCELLED, Metadata(), Metadata()),
    ],
    ids=["replica", "deployment", "connection"],
)
async def test_a_lost_replica_costs_another_attempt(error: Exception) -> None:
    handle = Handle(failing(error), failing(error), echo)
    await runner(handle).submit(job())
    assert len(handle.sent) == 3


async def test_a_replica_that_is_about_to_end_costs_another_attempt() -> None:
    async def refuse(cargo: Cargo) -> AsyncIterator[News]:
        yield Failed(ShuttingDownError("draining"), LOADED)

    handle = Handle(refuse, echo)
    await runner(handle).submit(job())
    assert len(handle.sent) == 2


async def test_a_replica_that_ends_without_a_word_is_lost() -> None:
    async def nothing(cargo: Cargo) -> AsyncIterator[News]:
        yield Started()

    handle = Handle(nothing, echo)
    await runner(handle).submit(job())
    assert len(handle.sent) == 2


async def test_a_replica_whose_call_was_cancelled_there_is_lost() -> None:
    handle = Handle(failing(asyncio.CancelledError()), echo)
    await runner(handle).submit(job())
    assert len(handle.sent) == 2


async def test_a_job_that_takes_its_replicas_along_is_given_up() -> None:
    handle = Handle(failing(ActorDiedError()))
    with pytest.raises(ModelCrashedError, match="in a row"):
        await runner(handle).submit(job())
    assert len(handle.sent) == ATTEMPTS


async def test_an_error_of_the_model_comes_back_at_once() -> None:
    async def fail(cargo: Cargo) -> AsyncIterator[News]:
        yield Failed(BadOutputError("nonsense"), LOADED)

    handle = Handle(fail)
    with pytest.raises(BadOutputError, match="nonsense"):
        await runner(handle).submit(job())
    assert len(handle.sent) == 1


async def test_a_model_that_is_being_loaded_is_known_to_be() -> None:
    loading = ModelStatus(state="loading", estimated_load_s=2.0)

    async def wait(cargo: Cargo) -> AsyncIterator[News]:
        yield Failed(ModelLoadingError("Model test/echo is currently loading"), loading)

    remote = runner(Handle(wait))
    with pytest.raises(ModelLoadingError):
        await remote.submit(job())
    assert remote.status(MODEL) == loading


async def test_a_bug_there_is_no_loss() -> None:
    bug = RayTaskError("run", "traceback", ValueError("a bug"))
    handle = Handle(failing(bug))
    with pytest.raises(ModelCrashedError, match="a bug"):
        await runner(handle).submit(job())
    assert len(handle.sent) == 1


async def test_who_leaves_takes_the_job_along() -> None:
    begun = asyncio.Event()

    async def hang(cargo: Cargo) -> AsyncIterator[News]:
        begun.set()
        await asyncio.get_running_loop().create_future()
        yield landed(cargo)

    handle = Handle(hang)
    remote = runner(handle)
    task = asyncio.create_task(remote.submit(job()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handle.cancelled == 1
    assert len(handle.sent) == 1
    assert await remote.settle(0)


async def test_too_much_is_refused() -> None:
    remote = runner(Handle(), 0)
    with pytest.raises(QueueFullError, match="busy"):
        await remote.submit(job())


async def test_a_draining_server_takes_nothing() -> None:
    remote = runner(Handle())
    remote.refuse()
    with pytest.raises(ShuttingDownError):
        await remote.submit(job())


async def test_the_state_is_what_was_heard_last() -> None:
    remote = runner(Handle())
    await remote.submit(job())
    assert remote.status(MODEL) == LOADED
    await remote.unload(MODEL)
    assert remote.status(MODEL).state == "unloaded"
    await remote.load(MODEL)
    assert remote.status(MODEL) == LOADED
    await remote.close()


async def test_a_model_that_can_not_be_loaded_somewhere_is_an_error() -> None:
    handle = Handle()
    handle.replicas = [LOADED, MissingWeightsError("the weights are missing")]
    handle.known = ModelStatus(state="failed")
    remote = runner(handle)
    with pytest.raises(MissingWeightsError):
        await remote.load(MODEL)
    assert remote.status(MODEL).state == "failed"


async def test_a_model_without_a_place_is_named() -> None:
    other = ModelSpec(id="test/other", backend="fake", revision="1")
    with pytest.raises(UnknownModelError, match="cluster_models"):
        await runner(Handle()).submit(Job(model=other, image=job().image, params={}))


def may_have_none(handle: Handle) -> RemoteRunner:
    placement = Placement(replicas=Bounds(least=0, most=2))
    home = Deployment(name="home", models=(MODEL,), placement=placement)
    return RemoteRunner([home], {"home": handle}, front=Handle(), jobs=8, picture_bytes=1_000_000)


async def learned(remote: RemoteRunner, wanted: str) -> None:
    async def true() -> bool:
        return remote.status(MODEL).state == wanted

    await until(true)


async def test_to_ask_for_the_state_or_to_unload_starts_no_replica() -> None:
    handle = Handle()
    remote = may_have_none(handle)
    await learned(remote, "loaded")
    assert handle.called == ["state"]
    handle.replicas = DeploymentUnavailableError.__new__(DeploymentUnavailableError)
    await remote.unload(MODEL)
    assert not handle.sent
    again = may_have_none(handle)
    again.status(MODEL)
    await learned(again, "unloaded")
    assert not handle.sent


async def test_to_ask_for_the_state_of_a_model_without_a_place_fails_nobody() -> None:
    other = ModelSpec(id="test/other", backend="fake", revision="1")
    remote, unseen = runner(Handle()), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
    assert remote.status(other).state == "unloaded"
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert not unseen


async def test_the_time_that_a_replica_counts_is_not_counted_twice() -> None:
    def counted() -> list[float | None]:
        names = ("calotype_inference_duration_seconds", "calotype_queue_wait_seconds")
        return [REGISTRY.get_sample_value(f"{name}_count", {"model": MODEL.id}) for name in names]

    before = counted()
    await runner(Handle()).submit(job())
    assert counted() == before
