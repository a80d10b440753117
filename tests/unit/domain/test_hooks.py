"""Hooks: progress, cancelling, and giving up on what can't be done in time."""

import threading

import numpy as np
import pytest

from calotype.domain import hooks as hooks_module
from calotype.domain.event import Event, Started
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, step_together
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
    monkeypatch.setattr(hooks_module, "time", found)
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


def test_progress_is_the_last_step_that_was_told() -> None:
    hooks = Hooks()
    assert hooks.progress == (0, 0)
    hooks.step(0, 4)
    assert hooks.progress == (0, 4)
    hooks.step(3, 4)
    assert hooks.progress == (3, 4)


def test_a_report_is_told_even_to_who_has_left_and_stops_nothing(clock: Clock) -> None:
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    hooks.start(clock.now_s + 1)
    hooks.cancel()
    clock.now_s += 100
    hooks.report(1, 10**9)
    assert seen == [(1, 10**9)]
    assert hooks.progress == (1, 10**9)


def test_a_step_that_stops_is_no_progress() -> None:
    seen: list[int] = []
    hooks = Hooks(lambda done, _: seen.append(done))
    hooks.step(1, 9)
    hooks.cancel()
    with pytest.raises(JobCancelledError):
        hooks.step(2, 9)
    assert (seen, hooks.progress) == ([1], (1, 9))


def test_who_cancels_calls_what_was_asked_for() -> None:
    calls: list[tuple[str, str]] = []

    def note(who: str) -> None:
        calls.append((who, threading.current_thread().name))

    hooks = Hooks()
    with hooks.on_cancel(lambda: note("a")), hooks.on_cancel(lambda: note("b")):
        assert calls == []
        thread = threading.Thread(target=hooks.cancel, name="the leaver")
        thread.start()
        thread.join()
    assert calls == [("a", "the leaver"), ("b", "the leaver")]


def test_who_asks_after_the_cancel_is_called_at_once() -> None:
    calls: list[int] = []
    hooks = Hooks()
    hooks.cancel()
    with hooks.on_cancel(lambda: calls.append(1)):
        assert calls == [1]


def test_nothing_is_called_after_the_run() -> None:
    calls: list[int] = []
    hooks = Hooks()
    with pytest.raises(ZeroDivisionError), hooks.on_cancel(lambda: calls.append(1)):
        raise ZeroDivisionError
    hooks.cancel()
    assert hooks.cancelled
    assert calls == []


def test_a_cancel_that_meets_the_asking_is_never_missed() -> None:
    for _ in range(200):
        hooks, called = Hooks(), threading.Event()
        both = threading.Barrier(2)

        def leave(hooks: Hooks = hooks, both: threading.Barrier = both) -> None:
            both.wait(5)
            hooks.cancel()

        leaver = threading.Thread(target=leave)
        leaver.start()
        both.wait(5)
        with hooks.on_cancel(called.set):
            assert called.wait(5)
        leaver.join()


def batch(*hooks: Hooks) -> list[Job]:
    spec = ModelSpec(id="m", backend="fake", revision="1")
    image = Image(np.zeros((1, 1, 3), np.uint8))
    return [Job(model=spec, image=image, params={}, hooks=own) for own in hooks]


def test_a_step_together_is_told_to_all() -> None:
    left, right = Hooks(), Hooks()
    step_together(batch(left, right), 1, 3)
    assert left.progress == right.progress == (1, 3)


def test_who_leaves_a_batch_does_not_stop_it() -> None:
    leaver, mate = Hooks(), Hooks()
    leaver.cancel()
    step_together(batch(leaver, mate), 1, 3)
    assert leaver.progress == (0, 0)
    assert mate.progress == (1, 3)


def test_a_batch_that_all_have_left_stops() -> None:
    hooks = [Hooks(), Hooks()]
    for own in hooks:
        own.cancel()
    with pytest.raises(JobCancelledError, match="cancelled after 2 of 3"):
        step_together(batch(*hooks), 2, 3)


def test_who_leaves_while_the_step_is_told_does_not_stop_it() -> None:
    mate = Hooks()
    leaver = Hooks()
    first = Hooks(lambda done, total: leaver.cancel())
    step_together(batch(first, leaver, mate), 1, 3)
    assert mate.progress == (1, 3)


def hopeless(clock: Clock) -> Hooks:
    hooks = Hooks()
    hooks.start(clock.now_s + 10)
    return hooks


def test_who_would_never_be_done_does_not_stop_the_mates(clock: Clock) -> None:
    late, mate = hopeless(clock), Hooks()
    clock.now_s += 5
    step_together(batch(late, mate), 1, 1000)
    assert mate.progress == (1, 1000)


@pytest.mark.parametrize("mates", [0, 1])
def test_the_only_one_left_stops_what_would_never_be_done(clock: Clock, mates: int) -> None:
    late, left = hopeless(clock), [Hooks() for _ in range(mates)]
    for own in left:
        own.cancel()
    clock.now_s += 5
    with pytest.raises(DeadlineExceededError):
        step_together(batch(late, *left), 1, 1000)


def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError(f"no ears for {event}")

    hooks = Hooks(on_event=fail)
    hooks.happened(Started())
    hooks.step(1, 2)
    assert hooks.progress == (1, 2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
