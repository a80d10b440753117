"""Shared memory without a name: what size it keeps, and what is left of it."""

import errno
import os

import pytest

from calotype.execution.segment import SMALL_BYTES, Segment, Shelf
from unit.execution.scripted import leaving_no_descriptor


def test_a_segment_can_not_be_shrunk_or_grown() -> None:
    segment = Segment.create(8192)
    assert segment.fd is not None
    for size in (0, 4096, 16384):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)
    with pytest.raises(PermissionError):
        os.pwrite(segment.fd, b"x", 8192)
    assert segment.size_bytes == 8192
    segment.close()


def test_a_segment_that_was_sent_is_sealed_by_who_gets_it() -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 8192)
    theirs = os.dup(fd)
    segment = Segment(fd)
    with pytest.raises(PermissionError):
        os.ftruncate(theirs, 0)
    os.close(theirs)
    segment.close()


def test_a_segment_and_its_descriptors_go_together() -> None:
    with leaving_no_descriptor():
        segment = Segment.create(100)
        segment.close()
        segment.close()
        assert segment.fd is None
        del segment
        Segment.create(100).close()


def test_memory_that_there_is_not_is_said_and_its_descriptor_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    # To ask the system for more than it has would end other processes: only pretend.
    monkeypatch.setattr(os, "posix_fallocate", full)
    with leaving_no_descriptor(), pytest.raises(OSError, match="no memory"):
        Segment.create(10)


def test_an_array_outlives_its_segment() -> None:
    segment = Segment.create(100)
    array = segment.array(50, (2, 5))
    array[:] = 7
    segment.close()
    del segment
    assert array.sum() == 70


def test_two_that_hold_it_see_the_same() -> None:
    one = Segment.create(100)
    two = Segment(os.dup(one.fd or 0))
    one.array(3, (1, 4))[:] = 9
    assert two.array(0, (10,)).tolist() == [0, 0, 0, 9, 9, 9, 9, 0, 0, 0]
    one.close()
    two.close()


def test_a_shelf_keeps_what_is_small_and_large_enough() -> None:
    shelf = Shelf()
    first, kept = shelf.take(1000)
    assert kept
    assert first.size_bytes == 1024
    assert shelf.take(1) == shelf.take(1024) == (first, True)
    second, kept = shelf.take(1025)
    assert kept
    assert second.size_bytes == 2048
    large, kept = shelf.take(SMALL_BYTES + 1)
    assert not kept
    assert shelf.take(2048) == (second, True)
    most, kept = shelf.take(SMALL_BYTES)
    assert kept
    assert most.size_bytes == SMALL_BYTES
    for segment in (first, second, large, most):
        segment.close()


def test_a_shelf_opens_again_what_it_kept_last() -> None:
    one, two = Segment.create(10), Segment.create(20)
    shelf = Shelf()
    with pytest.raises(ValueError, match="no segment was kept"):
        shelf.open(None, kept=True)
    kept = shelf.open(os.dup(one.fd or 0), kept=True)
    assert kept.fd is None
    assert shelf.open(os.dup(two.fd or 0), kept=False).size_bytes == 20
    assert shelf.open(None, kept=True) is kept
    one.close()
    two.close()
