"""Hooks: progress, cancelling, and giving up on what can't be done in time."""

import pytest

from calotype.domain import request
from calotype.domain.request import Hooks, JobCancelledError
from calotype.errors import DeadlineExceededError


class Clock:
    """Stands in for the module's ``time``."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(request, "time", found)
    return found


def test_what_would_end_long_after_its_deadline_ends_now(clock: Clock) -> None:
    hooks = Hooks()
    hooks.start(clock.now_s + 120)
    hooks.step(0, 1000)
    clock.now_s += 2.0
    with pytest.raises(DeadlineExceededError, match=r"about 2000 s here, and 120 s were left"):
        hooks.step(1, 1000)


@pytest.mark.parametrize(
    ("took_s", "done", "total", "allowed_s"),
    [
        (0.5, 1, 1000, 10),  # too early to tell
        (5.0, 1, 3, 10),  # a little late: it may get faster
        (50.0, 10, 10, 10),  # done
        (50.0, 0, 10, 10),  # nothing is known
        (50.0, 1, 10**6, float("inf")),  # no deadline
    ],
)
def test_what_may_still_be_done_goes_on(
    clock: Clock, took_s: float, done: int, total: int, allowed_s: float
) -> None:
    seen: list[int] = []
    hooks = Hooks(lambda done, _: seen.append(done))
    hooks.start(clock.now_s + allowed_s)
    clock.now_s += took_s
    hooks.step(done, total)
    assert seen == [done]


def test_what_came_before_the_first_step_is_not_the_pace(clock: Clock) -> None:
    """A job waits inside its batch, or for a network to be compiled: that is no slow tile."""
    hooks = Hooks()
    hooks.start(clock.now_s + 120)
    clock.now_s += 30
    hooks.step(0, 60)
    clock.now_s += 1.1
    hooks.step(1, 60)


def test_cancel_beats_all() -> None:
    hooks = Hooks()
    hooks.step(1, 10**9)
    hooks.cancel()
    with pytest.raises(JobCancelledError, match="cancelled after 1 of 2"):
        hooks.step(1, 2)
