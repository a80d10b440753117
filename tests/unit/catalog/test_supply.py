"""Models fetched because a request names them."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from calotype.catalog.catalog import Catalog
from calotype.catalog.supply import FAILED_S, MAX_WAITING, Deliver, Find, Supply
from calotype.domain.model import ModelSpec
from calotype.errors import (
    ForbiddenError,
    MissingWeightsError,
    ModelLoadingError,
    QueueFullError,
    UnknownModelError,
)

HERE = ModelSpec(id="here", backend="fake", revision="1")


def spec(id: str) -> ModelSpec:
    return ModelSpec(id=id, backend="fake", revision="1")


def deferred(fetch: Callable[[str], list[ModelSpec]]) -> Find:
    """Find everything, and fetch it later."""
    return lambda name: partial(fetch, name)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_an_unknown_model_is_fetched_once_for_all_who_ask() -> None:
    asked: list[str] = []
    go = threading.Event()

    def fetch(id: str) -> list[ModelSpec]:
        asked.append(id)
        go.wait(10)
        return [HERE, spec(id)]

    catalog = Catalog([HERE])
    supply = Supply(catalog, deferred(fetch))
    with pytest.raises(ModelLoadingError, match="Model acme/net is currently loading"):
        await supply.pull("acme/net", 0.01)
    waiting = [asyncio.create_task(supply.pull("acme/net", 10)) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    assert {found.id for found in await asyncio.gather(*waiting)} == {"acme/net"}
    assert asked == ["acme/net"]
    assert catalog.get("acme/net").id == "acme/net"
    assert len(catalog.all()) == 2


@pytest.mark.parametrize("name", ["net", "a/b/c", "../x", "acme/..", "https://host/x", "", "a b/c"])
async def test_what_is_no_name_of_the_hub_is_unknown(name: str) -> None:
    def fetch(id: str) -> list[ModelSpec]:
        raise AssertionError(id)

    with pytest.raises(UnknownModelError, match="does not exist"):
        await Supply(Catalog([HERE]), deferred(fetch)).pull(name, 1)


@pytest.mark.parametrize(
    ("error", "told", "said"),
    [
        (
            UnknownModelError("nothing at the mirror"),
            UnknownModelError,
            "Model acme/net does not exist",
        ),
        (ForbiddenError("acme/net is gated"), ForbiddenError, "acme/net is gated"),
        (OSError(28, "No space left on device"), MissingWeightsError, "No space left on device"),
        (RuntimeError("odd"), MissingWeightsError, "the server's log says why"),
    ],
)
async def test_a_failure_is_told_and_not_repeated_at_once(
    error: Exception, told: type[Exception], said: str
) -> None:
    asked: list[str] = []

    def fetch(id: str) -> list[ModelSpec]:
        asked.append(id)
        raise error

    clock = Clock()
    supply = Supply(Catalog([HERE]), deferred(fetch), clock)
    for _ in range(3):
        with pytest.raises(told, match=said):
            await supply.pull("acme/net", 10)
    assert len(asked) == 1
    clock.now_s = FAILED_S + 1
    with pytest.raises(told):
        await supply.pull("acme/net", 10)
    assert len(asked) == 2


async def test_a_repository_without_the_model_is_unknown() -> None:
    supply = Supply(Catalog([HERE]), lambda _: lambda: [HERE])
    with pytest.raises(UnknownModelError, match="Model acme/adapter does not exist"):
        await supply.pull("acme/adapter", 10)


async def test_a_long_fetch_holds_up_no_other_answer() -> None:
    go = threading.Event()

    def find(id: str) -> Deliver:
        if id == "acme/absent":
            raise UnknownModelError("no")

        def deliver() -> list[ModelSpec]:
            go.wait(10)
            return [spec(id)]

        return deliver

    supply = Supply(Catalog([HERE]), find)
    with pytest.raises(ModelLoadingError):
        await supply.pull("acme/large", 0.05)
    with pytest.raises(UnknownModelError):
        await supply.pull("acme/absent", 10)
    go.set()
    assert (await supply.pull("acme/large", 10)).id == "acme/large"


async def test_names_do_not_wait_without_bound() -> None:
    go = threading.Event()

    def find(id: str) -> Deliver:
        go.wait(10)
        raise UnknownModelError(id)

    supply = Supply(Catalog([HERE]), find)
    for number in range(MAX_WAITING):
        with pytest.raises(ModelLoadingError):
            await supply.pull(f"acme/{number}", 0)
    with pytest.raises(QueueFullError, match="are being fetched already"):
        await supply.pull("acme/more", 0)
    go.set()
