"""How much is taken in, and what those are told for whom there is no place."""

import asyncio
import contextlib

import numpy as np
import pytest

from calotype.domain.image import Image
from calotype.domain.request import Job
from calotype.errors import QueueFullError, ShuttingDownError
from calotype.execution.admission import Admission
from unit.execution.scripted import job, spec, turns

NET = spec()
SMALL = job(NET)
BYTES = SMALL.image.pixels.nbytes


def admission(jobs: int = 2, picture_bytes: int = 10**9, slots: int = 1) -> Admission:
    return Admission(jobs=jobs, picture_bytes=picture_bytes, slots=slots)


def refused(one: Admission, job: Job = SMALL) -> QueueFullError:
    with pytest.raises(QueueFullError) as caught, one.holding(job, 1.0):
        pass
    return caught.value


def test_only_so_many_are_taken() -> None:
    one = admission(jobs=2)
    with one.holding(SMALL, 1.0), one.holding(SMALL, 1.0):
        assert one.jobs == 2
        assert "2 requests are waiting" in str(refused(one))
        with pytest.raises(QueueFullError):
            one.check()
        assert one.jobs == 2
    assert one.jobs == 0
    one.check()


def test_only_so_many_bytes_of_pictures_are_taken() -> None:
    one = admission(jobs=99, picture_bytes=2 * BYTES)
    with one.holding(SMALL, 1.0), one.holding(SMALL, 1.0):
        refused(one)
        one.check()  # who has no picture yet can't be refused for it
    with one.holding(SMALL, 1.0):
        refused(one, job(NET, size=(3, 2)))


def test_a_lone_picture_is_taken_however_large() -> None:
    one = admission(picture_bytes=1)
    with one.holding(job(NET, size=(50, 50)), 1.0):
        refused(one)
    with one.holding(SMALL, 1.0):
        assert one.jobs == 1


def test_further_pictures_of_a_job_count() -> None:
    style = Image(np.zeros((2, 2, 3), np.uint8))
    two = Job(model=NET, image=SMALL.image, images={"style": style}, params={})
    one = admission(picture_bytes=2 * BYTES)
    with one.holding(SMALL, 1.0):
        refused(one, two)
        with one.holding(SMALL, 1.0):
            pass


def test_a_place_is_given_back_whatever_happens() -> None:
    one = admission(jobs=1, picture_bytes=BYTES)
    for _ in range(3):
        with contextlib.suppress(ZeroDivisionError), one.holding(SMALL, 1.0):
            raise ZeroDivisionError
    assert one.jobs == 0
    one.check()


@pytest.mark.parametrize(
    ("works_s", "slots", "retry_s"),
    [((3.0, 4.5), 1, 7.5), ((3.0, 4.5), 3, 2.5), ((0.1, 0.2), 1, 1.0), ((0.0, 0.0), 1, 1.0)],
)
def test_who_is_refused_may_come_back_once_the_work_is_done(
    works_s: tuple[float, float], slots: int, retry_s: float
) -> None:
    one = admission(slots=slots)
    with one.holding(SMALL, works_s[0]), one.holding(SMALL, works_s[1]):
        assert refused(one).retry_after_s == pytest.approx(retry_s)


def test_who_drains_takes_nothing() -> None:
    one = admission()
    with one.holding(SMALL, 1.0):
        one.draining = True
        with pytest.raises(ShuttingDownError) as caught:
            one.check()
        with pytest.raises(ShuttingDownError), one.holding(SMALL, 1.0):
            pass
        assert one.jobs == 1
    assert caught.value.retry_after_s == 5.0


async def test_settling_ends_with_the_last_job() -> None:
    one = admission()
    settling = asyncio.create_task(one.settle(60))
    await settling
    with one.holding(SMALL, 1.0):
        with one.holding(SMALL, 1.0):
            settling = asyncio.create_task(one.settle(60))
            await turns()
        await turns()
        assert not settling.done()
    assert await settling


async def test_settling_gives_up_after_its_grace() -> None:
    one = admission()
    with one.holding(SMALL, 1.0):
        assert not await one.settle(0.001)
        assert not await one.settle(0)


async def test_settling_without_grace_succeeds_when_nothing_is_in_work() -> None:
    assert await admission().settle(0)
