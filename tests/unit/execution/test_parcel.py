"""Batches and answers through shared memory, and the messages beside them."""

import json
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.backends.base import Batching
from calotype.backends.fake import FakeBackend
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image
from calotype.domain.request import Job, ParamValue
from calotype.errors import BadOutputError, MissingWeightsError
from calotype.execution.packing import ALIGN_BYTES, lay_out, read, write
from calotype.execution.parcel import (
    describe_traits,
    open_answers,
    open_jobs,
    open_object,
    pack_answers,
    pack_jobs,
    pack_object,
    traits_of,
)
from calotype.execution.segment import SMALL_BYTES, Segment, Shelf
from calotype.execution.worker import Answer, Traits
from unit.execution.scripted import leaving_no_descriptor, spec

NET = spec()


def drawn(shape: tuple[int, int], seed: int, *, alpha: bool = False) -> Image:
    rng = np.random.default_rng(seed)
    plane = rng.integers(0, 256, shape, np.uint8) if alpha else None
    return Image(rng.integers(0, 256, (*shape, 3), np.uint8), plane)


def same(one: Image, two: Image) -> bool:
    if one.alpha is None or two.alpha is None:
        return one.alpha is two.alpha and np.array_equal(one.pixels, two.pixels)
    return np.array_equal(one.pixels, two.pixels) and np.array_equal(one.alpha, two.alpha)


sides = st.integers(1, 40)
images = st.builds(drawn, st.tuples(sides, sides), st.integers(0, 2**32 - 1), alpha=st.booleans())
params = st.dictionaries(
    st.text(max_size=5), st.one_of(st.integers(), st.booleans(), st.floats(), st.text())
)
jobs_ = st.builds(
    lambda image, images, params, shrink, keep, strip: Job(
        model=NET,
        image=image,
        images=images,
        params=params,
        shrink=shrink,
        keep_tile=keep,
        is_strip=strip,
    ),
    images,
    st.dictionaries(st.sampled_from(["style", "mask", "mehr"]), images, max_size=2),
    params,
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)
errors_ = st.sampled_from(
    [BadOutputError("nonsense"), MissingWeightsError("ä"), JobCancelledError("left")]
)


class ByteHooks(Hooks):
    """Reads the byte that says whether anybody waits."""

    def __init__(self, segment: Segment, index: int) -> None:
        super().__init__()
        self.segment, self.index = segment, index

    @property
    def cancelled(self) -> bool:
        return self.segment.map[self.index] != 0


def crossed(segment: Segment | None) -> int | None:
    """Return a copy of a segment's descriptor, as the other side gets it."""
    if segment is None or segment.fd is None:
        return None
    fd = os.dup(segment.fd)
    segment.close()
    return fd


def sent(jobs: list[Job], outbox: Shelf, inbox: Shelf) -> list[Job]:
    segment, message = pack_jobs(jobs, outbox)
    there = inbox.open(crossed(segment), kept=message["kept"])
    return open_jobs(json.loads(json.dumps(message)), there, NET, ByteHooks)


def answered(answers: list[Answer], outbox: Shelf, inbox: Shelf) -> list[Answer]:
    segment, message = pack_answers(answers, outbox)
    return open_answers(json.loads(json.dumps(message)), crossed(segment), inbox)


@given(st.lists(images, min_size=1, max_size=5), st.integers(0, 200))
def test_pictures_lie_apart_and_on_cache_lines(found: list[Image], start: int) -> None:
    places, size = lay_out(found, start)
    position = start
    for (first, h, w, alpha), image in zip(places, found, strict=True):
        assert first % ALIGN_BYTES == 0
        assert position <= first < position + ALIGN_BYTES
        assert (h, w) == image.pixels.shape[:2]
        assert alpha is (image.alpha is not None)
        position = first + h * w * (4 if alpha else 3)
    assert size == position
    segment = Segment.create(size)
    write(found, places, segment)
    segment.close()
    assert all(
        same(read(place, segment), image) for place, image in zip(places, found, strict=True)
    )


@given(st.lists(st.lists(jobs_, min_size=1, max_size=4), min_size=1, max_size=4))
def test_batches_cross_one_after_another(batches: list[list[Job]]) -> None:
    outbox, inbox = Shelf(), Shelf()
    for jobs in batches:
        for one, two in zip(jobs, sent(jobs, outbox, inbox), strict=True):
            assert same(one.image, two.image)
            assert list(one.images) == list(two.images)
            assert all(same(one.images[name], two.images[name]) for name in one.images)
            assert repr(dict(one.params)) == repr(dict(two.params))  # NaN is not itself
            assert (one.shrink, one.model) == (two.shrink, two.model)
            assert (one.keep_tile, one.is_strip) == (two.keep_tile, two.is_strip)
            assert not two.hooks.cancelled


@given(st.lists(st.lists(st.one_of(images, errors_), min_size=1, max_size=4), max_size=4))
def test_answers_cross_and_stay(batches: list[list[Answer]]) -> None:
    outbox, inbox = Shelf(), Shelf()
    arrived = [answered(answers, outbox, inbox) for answers in batches]
    for answers, others in zip(batches, arrived, strict=True):
        for one, two in zip(answers, others, strict=True):
            if isinstance(one, Image):
                assert isinstance(two, Image)
                assert same(one, two), "the next answer must not overwrite it"
            else:
                assert type(one) is type(two)
                assert str(one) == str(two)


def test_large_pictures_have_memory_of_their_own() -> None:
    big = drawn((1800, 1800), 1, alpha=True)
    assert big.pixels.nbytes > SMALL_BYTES
    outbox, inbox = Shelf(), Shelf()
    (first,) = answered([big], outbox, inbox)
    answered([drawn((1800, 1800), 2)], outbox, inbox)
    (job,) = sent([Job(model=NET, image=big, params={})], outbox, inbox)
    assert isinstance(first, Image)
    assert same(first, big)
    assert same(job.image, big)
    assert outbox._kept is inbox._kept is None


@pytest.mark.parametrize("side", [3, 1300])
def test_no_descriptor_is_left_once_pictures_and_shelves_are_gone(side: int) -> None:
    picture = drawn((side, side), 1, alpha=True)

    def cross() -> None:
        outbox, inbox = Shelf(), Shelf()
        for _ in range(5):
            sent([Job(model=NET, image=picture, params={})], outbox, inbox)
            answered([picture, BadOutputError("x")], inbox, outbox)

    with leaving_no_descriptor():
        cross()


def test_shelves_hold_as_many_descriptors_after_many_batches_as_after_one() -> None:
    outbox, inbox = Shelf(), Shelf()
    batch = [Job(model=NET, image=drawn((30, 30), 1), params={})]
    sent(batch, outbox, inbox)
    answered([batch[0].image], inbox, outbox)
    with leaving_no_descriptor():
        for _ in range(5):
            sent(batch, outbox, inbox)
            answered([batch[0].image], inbox, outbox)


def test_small_batches_use_the_same_memory_again() -> None:
    outbox = Shelf()
    small = [Job(model=NET, image=drawn((9, 9), 1), params={})]
    first, message = pack_jobs(small, outbox)
    assert message["kept"]
    first.close()
    again, _ = pack_jobs(small, outbox)
    assert again is first
    larger, _ = pack_jobs([Job(model=NET, image=drawn((200, 200), 1), params={})], outbox)
    assert larger is not first
    larger.close()


def test_the_byte_of_a_job_tells_that_nobody_waits_and_is_cleared_for_the_next() -> None:
    outbox = Shelf()
    batch = [Job(model=NET, image=drawn((9, 9), n), params={}) for n in range(3)]
    segment, message = pack_jobs(batch, outbox)
    there = Segment(os.dup(segment.fd or 0))
    segment.map[1] = 1
    assert [j.hooks.cancelled for j in open_jobs(message, there, NET, ByteHooks)] == [0, 1, 0]
    pack_jobs(batch, outbox)
    assert [j.hooks.cancelled for j in open_jobs(message, there, NET, ByteHooks)] == [0, 0, 0]
    segment.close()
    there.close()


def test_encoded_pictures_stay_and_deadlines_go_by_what_is_left() -> None:
    values: dict[str, ParamValue] = {"style": b"encoded", "strength": 0.5}
    one = Job(model=NET, image=drawn((2, 2), 1), params=values, deadline_s=time.monotonic() + 100)
    (other,) = sent([one], Shelf(), Shelf())
    assert other.params == {"strength": 0.5}
    assert abs(other.hooks._deadline_s - one.deadline_s) < 5


def test_an_object_crosses() -> None:
    def cross() -> object:
        segment, message = pack_object((NET, 3))
        return open_object(message, Shelf().open(crossed(segment), kept=False))

    with leaving_no_descriptor():
        assert cross() == (NET, 3)


def test_what_a_model_says_of_itself_crosses() -> None:
    backend = FakeBackend(NET)
    expected = Traits(precision="none (fake)", batching=Batching(), shrinks=2)
    assert traits_of(json.loads(json.dumps(describe_traits(backend)))) == expected
    backend.batching = Batching(params=("steps",), multiple_px=8)
    assert traits_of(describe_traits(backend)).batching == backend.batching
    backend.batching = None  # type: ignore[assignment]  # a backend may have none
    assert traits_of(describe_traits(backend)).batching is None
