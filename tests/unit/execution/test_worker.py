"""A bad job fails alone, and one that needs too much memory gets smaller tiles."""

from collections.abc import Sequence

import pytest

from calotype.backends.base import Batching
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.model import Device
from calotype.domain.request import Job, step_together
from calotype.errors import (
    BadImageError,
    BadOutputError,
    DeadlineExceededError,
    ModelCrashedError,
    OutOfMemoryError,
)
from calotype.execution.worker import run_isolated
from workers import job, number


class Backend:
    """Answers with each job's own picture, but fails on number seven as told."""

    precision = "none (test)"
    device: Device = "cpu"
    batching = Batching()

    def __init__(self, error: Exception | None = None, shrinks: int = 2) -> None:
        self.error, self.shrinks = error, shrinks
        self.calls: list[list[int]] = []
        self.shrunk: list[int] = []
        self.enough = 99
        """With the tile halved this often, memory is enough."""

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        self.calls.append([number(job) for job in jobs])
        self.shrunk.append(jobs[0].shrink)
        step_together(jobs, 0, 1)
        if self.error is not None and 7 in self.calls[-1] and jobs[0].shrink < self.enough:
            raise self.error
        return [job.image for job in jobs]


class Forgetful(Backend):
    def run(self, jobs: Sequence[Job]) -> list[Image]:
        return super().run(jobs)[1:]


def test_a_good_batch_is_one_call() -> None:
    backend = Backend()
    jobs = [job(v) for v in range(8)]
    assert run_isolated(backend, jobs) == [job.image for job in jobs]
    assert len(backend.calls) == 1


@pytest.mark.parametrize("bad", range(8))
def test_one_bad_job_of_eight_fails_alone(bad: int) -> None:
    backend = Backend(RuntimeError("seven"))
    jobs = [job(7 if place == bad else 100 + place) for place in range(8)]
    answers = run_isolated(backend, jobs)
    assert isinstance(answers[bad], ModelCrashedError)
    assert [a for a in answers if isinstance(a, Image)] == [j.image for j in jobs if number(j) != 7]
    assert len(backend.calls) <= 15


def test_eight_bad_jobs_are_fifteen_calls() -> None:
    backend = Backend(RuntimeError("seven"))
    answers = run_isolated(backend, [job(7) for _ in range(8)])
    assert all(isinstance(answer, ModelCrashedError) for answer in answers)
    assert len(backend.calls) == 15


def test_a_batch_of_too_few_answers_is_no_answer() -> None:
    (answer,) = run_isolated(Forgetful(), [job(1)])
    assert isinstance(answer, BadOutputError)
    assert "1 jobs in, 0 images out" in str(answer)


def test_who_left_gets_nothing_and_the_mates_their_pictures() -> None:
    left = Hooks()
    left.cancel()
    jobs = [job(1), job(2, hooks=left), job(3)]
    backend = Backend()
    first, second, third = run_isolated(backend, jobs)
    assert (first, third) == (jobs[0].image, jobs[2].image)
    assert isinstance(second, JobCancelledError)
    assert len(backend.calls) == 1


def test_a_batch_that_all_have_left_is_cancelled_for_all() -> None:
    left = Hooks()
    left.cancel()
    answers = run_isolated(Backend(), [job(v, hooks=left) for v in range(3)])
    assert [type(answer) for answer in answers] == [JobCancelledError] * 3


@pytest.mark.parametrize(
    ("raised", "answered"),
    [
        (ValueError("odd"), ModelCrashedError),
        (MemoryError(), OutOfMemoryError),
        (BadOutputError("nan"), BadOutputError),
        (BadImageError("no style"), BadImageError),
        (DeadlineExceededError("too large"), DeadlineExceededError),
    ],
)
def test_a_job_is_answered_in_our_own_words(raised: Exception, answered: type[Exception]) -> None:
    (answer,) = run_isolated(Backend(raised, shrinks=0), [job(7)])
    assert type(answer) is answered
    assert answer is raised or answer.__cause__ is raised


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), MemoryError()])
@pytest.mark.parametrize("enough", [1, 2])
def test_too_little_memory_halves_the_tile_until_it_is_enough(
    error: Exception, enough: int
) -> None:
    backend = Backend(error)
    backend.enough = enough
    seven = job(7)
    assert run_isolated(backend, [seven]) == [seven.image]
    assert backend.shrunk == list(range(enough + 1))


def test_the_tile_is_halved_as_often_as_the_backend_can() -> None:
    backend = Backend(OutOfMemoryError("full"), shrinks=3)
    (answer,) = run_isolated(backend, [job(7)])
    assert isinstance(answer, OutOfMemoryError)
    assert backend.shrunk == [0, 1, 2, 3]


def test_only_the_job_that_found_no_memory_gets_smaller_tiles() -> None:
    backend = Backend(OutOfMemoryError("full"))
    backend.enough = 1
    jobs = [job(1), job(7)]
    assert run_isolated(backend, jobs) == [job.image for job in jobs]
    assert backend.calls == [[1, 7], [1], [7], [7]]
    assert backend.shrunk == [0, 0, 0, 1]
