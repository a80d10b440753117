"""Every job is answered once and rightly, whatever leaves, falls or comes, in any order.

Time is virtual: the loop jumps from one timer to the next, and a queue that is stuck is found at
once, because then there is no timer.
"""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import get_args
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.domain import deadline
from calotype.domain.request import Outcome
from calotype.errors import BadOutputError, DeadlineExceededError, ModelCrashedError
from calotype.execution.policy import BatchLimits
from calotype.execution.scheduler import MAX_ATTEMPTS
from properties.device import LOST, CrewPlan, Device, End, JobPlan, Loop, Plan
from workers import value_of

ENDS = get_args(End)

moments = st.integers(0, 8)
job_plans = st.builds(
    JobPlan,
    crew=st.sampled_from([0, 0, 1, 2]),
    caller=st.sampled_from(["", "a", "vip"]),
    side=st.sampled_from([1, 1, 2]),
    at_s=st.integers(0, 3),
    leaves_after_s=st.none() | st.none() | moments,
    deadline_after_s=st.none() | st.none() | st.integers(1, 8),
)
plans = st.builds(
    Plan,
    slots=st.integers(1, 3),
    limits=st.builds(
        BatchLimits,
        max_jobs=st.sampled_from([1, 2, 4, 4]),
        max_pixels=st.sampled_from([1, 5, 16, 16]),
        max_wait_s=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    crews=st.lists(
        st.builds(
            CrewPlan,
            size=st.integers(1, 2),
            batches=st.sampled_from([False, True, True]),
            early=st.booleans(),
            loads_s=st.integers(0, 2),
            fails=st.lists(st.sampled_from([False, False, True]), max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
    jobs=st.lists(job_plans, max_size=4) | st.lists(job_plans, min_size=8, max_size=16),
    runs=st.lists(
        st.tuples(st.sampled_from(("answer", *ENDS)), st.integers(0, 4)),
        max_size=12,
    ),
    falls=st.lists(st.tuples(moments, st.integers(0, 5)), max_size=3),
)


async def run(plan: Plan, close_at_s: float | None = None) -> None:
    """Play a plan to its end, or until it is closed, and look at who got what."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    device = Device(plan, loop)
    loop.set_exception_handler(lambda _, context: device.wrong.append(str(context)))
    tasks = [
        asyncio.create_task(device.submit(index, plan), name=str(index))
        for index, plan in enumerate(plan.jobs)
    ]
    for index, (own, task) in enumerate(zip(plan.jobs, tasks, strict=True)):
        if own.leaves_after_s is not None:
            loop.call_later(own.at_s + own.leaves_after_s, device.leave, index, task)
    for at_s, which in plan.falls:
        loop.call_later(at_s, device.fall, which)
    if close_at_s is None:
        await device.finish(tasks)
    else:
        await asyncio.sleep(close_at_s)
        await device.close(tasks)
    for index, task in enumerate(tasks):
        look(device, index, task)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert device.wrong == []


def look(device: Device, index: int, task: "asyncio.Task[Outcome]") -> None:
    """Check what a caller got."""
    ends = device.ends.get(index, [])
    if task.cancelled():
        assert index in device.gone | device.unlucky
        return
    assert index not in device.gone
    match task.exception():
        case None:
            outcome = task.result()
            assert value_of(outcome) == index
            assert ends[-1] == "answer"
            assert outcome.queue_s >= 0
            assert outcome.inference_s >= 0
        case DeadlineExceededError():
            assert device.plan.jobs[index].deadline_after_s is not None
        case BadOutputError() as error:
            assert str(error) == str(index)
            assert ends[-1] == "error"
        case ModelCrashedError() as error:
            lost = len(ends) == MAX_ATTEMPTS and set(ends) <= set(LOST)
            broken = ends[-1:] == ["break"]
            true = {"fell": lost, "RuntimeError('broke')": broken, "can't be loaded": True}
            assert true[str(error)]
        case error:
            raise AssertionError(f"{index} got {error!r}")
    shrinks = device.shrinks.get(index, [])
    assert shrinks == [0, int(ends[:1] == ["memory"])][: len(shrinks)]


def play(main: Coroutine[object, object, None]) -> None:
    """Run something in virtual time."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        with mock.patch.object(deadline, "time", SimpleNamespace(monotonic=loop.time)):
            runner.run(main)


@settings(max_examples=600, deadline=None)
@given(plans)
def test_every_job_is_answered_once_and_rightly(plan: Plan) -> None:
    play(run(plan))


@settings(max_examples=300, deadline=None)
@given(plans, st.integers(0, 12))
def test_closing_at_any_time_leaves_nobody_waiting(plan: Plan, close_at_s: int) -> None:
    play(run(plan, close_at_s))
