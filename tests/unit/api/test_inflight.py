import asyncio

import pytest

from calotype.api.archive import Archive
from calotype.api.inflight import InFlight
from calotype.api.record import Record
from calotype.errors import RequestCancelledError

LONG_S = 60.0


async def test_what_is_done_is_forgotten() -> None:
    in_flight = InFlight(Archive(0, 1))
    with in_flight.holding(Record("one", "", "m")), in_flight.holding(Record("one", "", "m")):
        assert [record.model_id for record in in_flight.find("one")] == ["m", "m"]
        assert len(in_flight) == 2
    assert (in_flight.find("one"), len(in_flight), in_flight.cancel("one")) == ((), 0, 0)


async def test_the_server_s_own_cancellation_counts_for_more() -> None:
    in_flight = InFlight(Archive(0, 1))

    async def work() -> None:
        with in_flight.holding(Record("one", "", "m")):
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
    in_flight = InFlight(Archive(0, 1))

    async def work() -> str:
        try:
            with in_flight.holding(Record("one", "", "m")):
                await asyncio.sleep(LONG_S)
        except RequestCancelledError:
            await asyncio.sleep(0)  # would be cut short, were a cancellation left over
            return "answered"
        return "not cancelled"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert (in_flight.cancel("one"), in_flight.cancel("one")) == (1, 1)
    assert await task == "answered"


async def test_what_is_cancelled_before_it_begins_does_not_begin() -> None:
    """A job, between the last byte of its request and its own first step."""
    in_flight, record = InFlight(Archive(0, 1)), Record("one", "", "m", is_kept=True)
    record.cancel("the request was cancelled")
    with pytest.raises(RequestCancelledError), in_flight.holding(record):
        raise AssertionError("it began")
    assert len(in_flight) == 0
