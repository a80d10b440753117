import asyncio

import pytest

from calotype.api.inflight import InFlight
from calotype.errors import RequestCancelledError

LONG_S = 60.0


async def test_what_is_done_is_forgotten() -> None:
    in_flight = InFlight()
    with in_flight.holding("one", "m"), in_flight.holding("one", "m"):
        assert [entry.model_id for entry in in_flight.find("one")] == ["m", "m"]
        assert len(in_flight) == 2
    assert (in_flight.find("one"), len(in_flight), in_flight.cancel("one")) == ((), 0, 0)


async def test_the_server_s_own_cancellation_counts_for_more() -> None:
    in_flight = InFlight()

    async def work() -> None:
        with in_flight.holding("one", "m"):
            await asyncio.sleep(LONG_S)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert in_flight.cancel("one") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert len(in_flight) == 0


async def test_a_second_cancellation_is_the_first() -> None:
    in_flight = InFlight()

    async def work() -> str:
        try:
            with in_flight.holding("one", "m"):
                await asyncio.sleep(LONG_S)
        except RequestCancelledError:
            await asyncio.sleep(0)  # would be cut short, were a cancellation left over
            return "answered"
        return "not cancelled"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert (in_flight.cancel("one"), in_flight.cancel("one")) == (1, 1)
    assert await task == "answered"
