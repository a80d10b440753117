"""Failures by model: how long each rests, and what those are told who ask meanwhile."""

import pytest

from calotype.errors import (
    CalotypeError,
    ForbiddenError,
    MissingWeightsError,
    ModelCrashedError,
    OutOfMemoryError,
)
from calotype.execution.backoff import FIRST_S, LONGEST_S, BackOff
from unit.execution.scripted import Clock, spec

NET, OTHER = spec("net"), spec("other")


def test_a_rest_doubles_with_each_failure_up_to_five_minutes() -> None:
    clock = Clock()
    rest = BackOff(clock)
    error = ModelCrashedError("gone")
    delays = []
    for _ in range(7):
        delays.append(rest.failed(NET, error))
        clock.now_s += delays[-1]
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert (delays[0], delays[-1]) == (FIRST_S, LONGEST_S)


def test_who_asks_too_early_is_told_why_and_when() -> None:
    clock = Clock()
    rest = BackOff(clock)
    rest.failed(NET, MissingWeightsError("net.bin is missing"))
    clock.now_s += 3
    with pytest.raises(MissingWeightsError, match=r"net\.bin is missing.* in 7 s") as caught:
        rest.check(NET)
    assert caught.value.retry_after_s == 7
    assert rest.left_s(NET) == 7
    assert rest.reason(NET) == "net.bin is missing"
    rest.check(OTHER)


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        (MissingWeightsError("x"), MissingWeightsError),
        (OutOfMemoryError("x"), ModelCrashedError),
        (ForbiddenError("x"), ModelCrashedError),
    ],
)
def test_the_kind_of_a_failure_is_told_where_it_is_the_operators(
    failed: CalotypeError, told: type[CalotypeError]
) -> None:
    rest = BackOff(Clock())
    rest.failed(NET, failed)
    with pytest.raises(CalotypeError) as caught:
        rest.check(NET)
    assert type(caught.value) is told
    assert caught.value.__cause__ is failed


def test_after_its_rest_a_model_may_be_tried_and_its_failures_still_count() -> None:
    clock = Clock()
    rest = BackOff(clock)
    rest.failed(NET, ModelCrashedError("gone"))
    clock.now_s += 10
    rest.check(NET)
    assert rest.left_s(NET) == 0
    clock.now_s += 1000
    assert rest.left_s(NET) == 0
    assert rest.failed(NET, ModelCrashedError("gone")) == 20


def test_a_success_forgets_all() -> None:
    rest = BackOff(Clock())
    for _ in range(4):
        rest.failed(NET, ModelCrashedError("gone"))
    rest.succeeded(NET)
    rest.succeeded(OTHER)
    rest.check(NET)
    assert rest.left_s(NET) is None
    assert rest.reason(NET) == ""
    assert rest.failed(NET, ModelCrashedError("gone")) == FIRST_S
