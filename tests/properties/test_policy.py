"""Which job goes next: for any queue, in any order of arrival, whoever floods it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from calotype.execution.policy import (
    AGING_S,
    BatchLimits,
    Run,
    Wait,
    Waiting,
    fair_order,
    next_batch,
)

NOW_S = 300.0

jobs = st.builds(
    Waiting,
    key=st.sampled_from("ab"),
    pixels=st.integers(1, 100),
    arrived_s=st.floats(0, NOW_S),
    caller=st.sampled_from("abcd"),
    priority=st.integers(-2, 2),
    alone=st.booleans(),
)
queues = st.lists(jobs, max_size=12)
turns_of = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 99))
limits_of = st.builds(
    BatchLimits,
    max_jobs=st.integers(1, 6),
    max_pixels=st.integers(1, 200),
    max_wait_s=st.floats(0, 1),
)


def level(job: Waiting, now_s: float = NOW_S) -> int:
    """Say how urgent a job is, as the policy promises."""
    return job.priority + int((now_s - job.arrived_s) / AGING_S)


# The order


@given(queues, turns_of)
def test_everyone_is_in_the_order_once(queue: list[Waiting], turns: Mapping[str, int]) -> None:
    assert sorted(fair_order(queue, turns, NOW_S)) == list(range(len(queue)))


@given(queues, turns_of)
def test_the_more_urgent_go_first(queue: list[Waiting], turns: Mapping[str, int]) -> None:
    levels = [level(queue[i]) for i in fair_order(queue, turns, NOW_S)]
    assert levels == sorted(levels, reverse=True)


@given(queues, turns_of)
def test_a_callers_equal_jobs_go_by_age(queue: list[Waiting], turns: Mapping[str, int]) -> None:
    order = fair_order(queue, turns, NOW_S)
    own = [(level(queue[i]), queue[i].caller, i) for i in order]
    for _, rows in groupby(sorted(own, key=lambda row: row[:2]), key=lambda row: row[:2]):
        indices = [row[2] for row in rows]
        assert indices == sorted(indices)


@given(queues, turns_of)
def test_equals_take_turns(queue: list[Waiting], turns: Mapping[str, int]) -> None:
    order = fair_order(queue, turns, NOW_S)
    for _, group in groupby(order, key=lambda i: level(queue[i])):
        callers = [queue[i].caller for i in group]
        ahead = [turns.get(caller, -1) for caller in dict.fromkeys(callers)]
        assert ahead == sorted(ahead)  # whoever had the last turn longest ago begins
        all_jobs, had = Counter(callers), Counter[str]()
        for caller in callers:
            had[caller] += 1
            left = [name for name in all_jobs if had[name] < all_jobs[name]]
            assert all(had[name] >= max(had.values()) - 1 for name in left)


@given(queues, turns_of, st.floats(0, NOW_S))
def test_a_clock_that_is_behind_harms_nobody(
    queue: list[Waiting], turns: Mapping[str, int], now_s: float
) -> None:
    assert sorted(fair_order(queue, turns, now_s)) == list(range(len(queue)))


# The batch


@given(queues, turns_of, limits_of, st.floats(0, 2))
def test_a_batch_has_the_first_job_one_key_and_fits(
    queue: list[Waiting], turns: Mapping[str, int], limits: BatchLimits, later_s: float
) -> None:
    queue = [queue[i] for i in fair_order(queue, turns, NOW_S)]
    now_s = NOW_S + later_s
    match next_batch(queue, limits, now_s):
        case Run(indices):
            chosen = [queue[i] for i in indices]
            assert indices[0] == 0
            assert list(indices) == sorted(set(indices))
            assert {job.key for job in chosen} == {queue[0].key}
            assert len(chosen) <= limits.max_jobs
            assert len(chosen) == 1 or sum(j.pixels for j in chosen) <= limits.max_pixels
            assert len(chosen) == 1 or not any(job.alone for job in chosen)
        case Wait(seconds):
            assert seconds > 0
            assert not queue or now_s < queue[0].arrived_s + limits.max_wait_s


@given(queues, limits_of)
def test_nobody_waits_for_company_that_could_not_come(
    queue: list[Waiting], limits: BatchLimits
) -> None:
    """Who waits has room left; who goes early has none."""
    fits = [j for j in queue if queue and j.key == queue[0].key and not j.alone]
    match next_batch(queue, limits, 0.0):
        case Wait() if queue:
            assert not queue[0].alone
            assert len(fits) < limits.max_jobs
            assert len(fits) == 1 or sum(j.pixels for j in fits) <= limits.max_pixels
        case Run(indices) if queue[0].arrived_s + limits.max_wait_s > 0.0:
            full = len(indices) == limits.max_jobs
            assert queue[0].alone or full or len(indices) < len(fits)
        case _:
            pass


@given(st.lists(jobs, min_size=1, max_size=12), limits_of)
def test_the_first_never_waits_longer_than_it_may(
    queue: list[Waiting], limits: BatchLimits
) -> None:
    late_s = queue[0].arrived_s + limits.max_wait_s + 1e-6
    assert isinstance(next_batch(queue, limits, late_s), Run)


def test_a_full_batch_leaves_at_once() -> None:
    queue = [Waiting(key="a", pixels=1, arrived_s=0.0), Waiting(key="a", pixels=1, arrived_s=0.0)]
    limits = BatchLimits(max_jobs=2, max_pixels=99, max_wait_s=9.0)
    assert next_batch(queue, limits, now_s=0.0) == Run((0, 1))


def test_an_empty_queue_waits_for_ever() -> None:
    limits = BatchLimits(max_jobs=2, max_pixels=99, max_wait_s=0.0)
    assert next_batch([], limits, now_s=0.0) == Wait(float("inf"))


# Nobody starves


@dataclass
class Device:
    """Runs one batch after the other, and gives the turns as the scheduler does."""

    limits: BatchLimits
    queue: list[Waiting]
    turns: dict[str, int] = field(default_factory=dict)
    now_s: float = 0.0

    def run(self, takes_s: float) -> list[Waiting]:
        self.now_s += takes_s
        order = fair_order(self.queue, self.turns, self.now_s)
        queue = [self.queue[i] for i in order]
        choice = next_batch(queue, replace(self.limits, max_wait_s=0.0), self.now_s)
        assert isinstance(choice, Run)
        chosen = [queue[i] for i in choice.indices]
        self.queue = [job for job in self.queue if not any(job is gone for gone in chosen)]
        self.turns[chosen[0].caller] = max(self.turns.values(), default=0) + 1
        return chosen


def flood(caller: str, now_s: float, priority: int = 0) -> Waiting:
    return Waiting(key="flood", pixels=1, arrived_s=now_s, caller=caller, priority=priority)


@given(limits_of, turns_of, st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_who_floods_the_queue_delays_another_by_one_turn(
    limits: BatchLimits, turns: dict[str, int], callers: list[str]
) -> None:
    """Each flooding caller, who refills whatever ran, goes at most once before the other."""
    device = Device(limits, [flood(caller, 0.0) for caller in callers], turns)
    single = Waiting(key="single", pixels=1, arrived_s=0.0, caller="single")
    device.queue.append(single)
    for _ in set(callers):
        ran = device.run(0.01)
        if any(job is single for job in ran):
            return
        device.queue += [flood(job.caller, device.now_s) for job in ran]
    assert any(job is single for job in device.run(0.01))


@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 20),
    st.sampled_from(["flood", "other"]),
)
def test_the_lowest_priority_waits_for_its_age_only(
    gap: int, waiting: int, arrivals: int, takes_s: int, caller: str
) -> None:
    """Before it go those that came less than the gap of priorities, in aging, after it."""
    limits = BatchLimits(max_jobs=1, max_pixels=1, max_wait_s=0.0)
    device = Device(limits, [flood("flood", 0.0, gap) for _ in range(waiting)])
    low = Waiting(key="low", pixels=1, arrived_s=0.0, caller=caller, priority=0)
    device.queue.append(low)
    enough_s = (gap + 1) * AGING_S
    most = waiting + arrivals * (enough_s / takes_s + 1)
    runs = 0
    while low in device.queue:
        (ran,) = device.run(takes_s)
        runs += 1
        assert ran is low or ran.arrived_s < enough_s
        assert runs <= most + 1
        device.queue += [flood("flood", device.now_s, gap) for _ in range(arrivals)]
