import asyncio
import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.cache.flight import SingleFlight
from calotype.domain.event import Event, Preview, Progress, Started
from calotype.domain.hooks import Hooks
from calotype.errors import DeadlineExceededError, ModelCrashedError

Waiter = asyncio.Task[tuple[int, bool]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Lab:
    """Computations that end when the test says so."""

    def __init__(self, cleanup_steps: int = 0) -> None:
        self.flight = SingleFlight[int](retry_on=(DeadlineExceededError,))
        self.begun: list[asyncio.Future[int]] = []
        self.hooks: list[Hooks] = []
        """Of the computations; what happens to them is told to all who wait."""
        self.running = 0
        self._cleanup_steps = cleanup_steps

    async def compute(self, hooks: Hooks) -> int:
        self.running += 1
        self.hooks.append(hooks)
        self.begun.append(asyncio.get_running_loop().create_future())
        try:
            return await self.begun[-1]
        finally:
            try:
                for _ in range(self._cleanup_steps):
                    await asyncio.sleep(0)
            finally:  # the caller may be cancelled while a finished computation cleans up
                self.running -= 1

    def open(self) -> list[asyncio.Future[int]]:
        return [future for future in self.begun if not future.done()]

    def call(self, key: str = "k", hooks: Hooks | None = None) -> Waiter:
        return asyncio.create_task(self.flight.run(key, self.compute, hooks or Hooks()))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_equal_keys_compute_once() -> None:
    lab = Lab()
    callers = [lab.call() for _ in range(5)]
    await settle()
    assert len(lab.begun) == 1
    lab.begun[0].set_result(42)
    results = await asyncio.gather(*callers)
    assert results == [(42, False)] + [(42, True)] * 4
    assert len(lab.flight) == 0


async def test_different_keys_compute_side_by_side() -> None:
    lab = Lab()
    one, two = lab.call("a"), lab.call("b")
    await settle()
    lab.begun[1].set_result(2)
    assert await two == (2, False)
    lab.begun[0].set_result(1)
    assert await one == (1, False)


async def test_a_finished_flight_is_not_joined() -> None:
    lab = Lab()
    for number in range(3):
        caller = lab.call()
        await settle()
        lab.begun[number].set_result(number)
        assert await caller == (number, False)


async def test_when_the_leader_is_cancelled_the_others_go_on() -> None:
    lab = Lab()
    leader, follower = lab.call(), lab.call()
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    lab.begun[0].set_result(1)
    assert await follower == (1, True)


async def test_when_a_follower_is_cancelled_the_others_go_on() -> None:
    lab = Lab()
    leader, follower = lab.call(), lab.call()
    await settle()
    follower.cancel()
    await settle()
    lab.begun[0].set_result(1)
    assert await leader == (1, False)


async def test_the_last_caller_cancelled_ends_the_computation_and_waits_for_it() -> None:
    lab = Lab(cleanup_steps=5)
    callers = [lab.call(), lab.call()]
    await settle()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)
    assert lab.running == 0
    assert len(lab.flight) == 0


async def test_repeated_cancellation_does_not_cut_the_cleanup_short() -> None:
    lab = Lab(cleanup_steps=10)
    caller = lab.call()
    await settle()
    for _ in range(5):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    await asyncio.wait((caller,))
    assert caller.cancelled()
    assert lab.running == 0


async def test_a_caller_who_comes_during_the_cleanup_begins_anew() -> None:
    lab = Lab(cleanup_steps=10)
    first = lab.call()
    await settle()
    first.cancel()
    await asyncio.sleep(0)
    second = lab.call()
    await settle()
    assert len(lab.begun) == 2
    lab.begun[1].set_result(2)
    assert await second == (2, False)


@pytest.mark.parametrize("steps", range(4))
async def test_a_caller_cancelled_while_the_computation_begins(steps: int) -> None:
    lab = Lab()
    caller = lab.call()
    for _ in range(steps):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait((caller,))
    assert caller.cancelled()
    assert lab.running == 0
    assert len(lab.flight) == 0


async def test_an_error_is_everybodys() -> None:
    lab = Lab()
    callers = [lab.call() for _ in range(3)]
    await settle()
    lab.begun[0].set_exception(ModelCrashedError("boom"))
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in results] == ["boom"] * 3
    assert len(lab.begun) == 1


async def test_an_error_of_the_leaders_own_makes_a_follower_lead() -> None:
    lab = Lab()
    leader, *followers = [lab.call() for _ in range(3)]
    await settle()
    lab.begun[0].set_exception(DeadlineExceededError("late"))
    await settle()
    with pytest.raises(DeadlineExceededError):
        await leader
    assert len(lab.begun) == 2
    lab.begun[1].set_result(2)
    assert sorted(await asyncio.gather(*followers)) == [(2, False), (2, True)]


async def test_an_error_of_a_leader_who_left_makes_a_follower_lead() -> None:
    lab = Lab()
    leader, follower = lab.call(), lab.call()
    await settle()
    leader.cancel()
    await settle()
    lab.begun[0].set_exception(DeadlineExceededError("late"))
    await settle()
    lab.begun[1].set_result(2)
    assert await follower == (2, False)


async def test_a_computation_that_cancels_itself_makes_a_follower_lead() -> None:
    lab = Lab()
    leader, follower = lab.call(), lab.call()
    await settle()
    lab.begun[0].cancel()
    await settle()
    assert leader.cancelled()
    lab.begun[1].set_result(2)
    assert await follower == (2, False)


async def test_a_task_killed_before_its_first_step_leaves_no_flight() -> None:
    lab = Lab()
    caller = lab.call()
    before = asyncio.all_tasks()
    await asyncio.sleep(0)
    (task,) = asyncio.all_tasks() - before
    task.cancel()
    await settle()
    assert caller.cancelled()
    assert len(lab.flight) == 0


async def test_cancelled_in_the_step_in_which_the_computation_fails() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    lab = Lab()
    caller = lab.call()
    await settle()
    lab.begun[0].set_exception(ModelCrashedError("boom"))
    await asyncio.sleep(0)  # the computation ends; the caller has yet to hear of it
    caller.cancel()
    await asyncio.wait((caller,))
    del caller
    lab.begun.clear()
    gc.collect()
    loop.set_exception_handler(None)
    assert complaints == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "cancel", "return", "fail", "late", "tick"]),
        st.integers(min_value=0, max_value=9),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=300)
@given(steps=STEPS, cleanup_steps=st.integers(min_value=0, max_value=3))
def test_any_interleaving_answers_each_caller_and_leaves_nothing(
    steps: list[tuple[str, int]], cleanup_steps: int
) -> None:
    asyncio.run(_play(steps, cleanup_steps))


async def _play(steps: list[tuple[str, int]], cleanup_steps: int) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    lab = Lab(cleanup_steps)
    callers: list[Waiter] = []
    cancelled: set[Waiter] = set()
    for step, number in steps:
        assert len(lab.open()) <= 1  # one computation a key; those being cleaned up are done
        if step == "call":
            callers.append(lab.call())
        elif step == "tick":
            for _ in range(number):
                await asyncio.sleep(0)
        elif step == "cancel":
            cancelled |= {caller for caller in callers[number : number + 1] if caller.cancel()}
        else:
            _end(lab, step)
    await settle()
    while lab.open():
        _end(lab, "return")
        await settle()
    _check(lab, callers, cancelled)
    callers.clear()
    cancelled.clear()
    lab.begun.clear()
    gc.collect(0)
    assert complaints == []


def _end(lab: Lab, step: str) -> None:
    for future in lab.open():
        if step == "return":
            future.set_result(lab.begun.index(future))
        else:
            future.set_exception(
                {"fail": ModelCrashedError, "late": DeadlineExceededError}[step]("")
            )


def _check(lab: Lab, callers: list[Waiter], cancelled: set[Waiter]) -> None:
    assert all(caller.done() for caller in callers)
    assert {caller for caller in callers if caller.cancelled()} == cancelled
    assert lab.running == 0
    assert len(lab.flight) == 0
    ended = [caller for caller in callers if not caller.cancelled()]
    errors = [error for caller in ended if (error := caller.exception()) is not None]
    late = [error for error in errors if isinstance(error, DeadlineExceededError)]
    assert len(set(map(id, late))) == len(late)  # nobody inherits a leader's own error
    results = [caller.result() for caller in ended if caller.exception() is None]
    led = [value for value, shared in results if not shared]
    assert len(set(led)) == len(led)  # one leader a computation
    assert all(0 <= value < len(lab.begun) for value, _ in results)


class Ears:
    """Hooks that remember what they were told."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.hooks = Hooks(on_event=self.heard.append)


async def test_all_who_wait_are_told_what_happens() -> None:
    lab, first, late, leaver = Lab(), Ears(), Ears(), Ears()
    callers = [lab.call(hooks=first.hooks)]
    await settle()
    lab.hooks[0].happened(Started())
    lab.hooks[0].report(1, 3)
    callers += [lab.call(hooks=ears.hooks) for ears in (late, leaver)]
    await settle()
    callers[2].cancel()
    await settle()
    lab.hooks[0].report(2, 3)
    lab.begun[0].set_result(7)
    assert await asyncio.gather(*callers[:2]) == [(7, False), (7, True)]
    assert first.heard == [Started(), Progress(1, 3), Progress(2, 3)]
    assert late.heard == [Progress(1, 3), Progress(2, 3)]
    assert leaver.heard == [Progress(1, 3)]
    assert first.hooks.progress == late.hooks.progress == (2, 3)


async def test_who_comes_after_a_preview_is_told_how_far_it_is() -> None:
    lab, first, late = Lab(), Ears(), Ears()
    callers = [lab.call(hooks=first.hooks)]
    await settle()
    lab.hooks[0].report(1, 3)
    lab.hooks[0].happened(Preview(b"png"))
    callers.append(lab.call(hooks=late.hooks))
    await settle()
    lab.begun[0].set_result(7)
    await asyncio.gather(*callers)
    assert first.heard == [Progress(1, 3), Preview(b"png")]
    assert late.heard == [Progress(1, 3)], "a preview says nothing of the state"


async def test_who_leaves_does_not_stop_what_others_wait_for() -> None:
    lab, first, second = Lab(), Ears(), Ears()
    callers = [lab.call(hooks=e.hooks) for e in (first, second)]
    await settle()
    first.hooks.cancel()
    callers[0].cancel()
    await settle()
    assert not lab.hooks[0].cancelled
    lab.begun[0].set_result(7)
    assert await callers[1] == (7, True)
