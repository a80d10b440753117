"""Answers of a process that a picture may have broken: refused, and nothing is left of them."""

import contextlib
import os
from pathlib import Path

import pytest

from calotype.execution.channel import Message
from calotype.execution.parcel import open_answers
from calotype.execution.segment import Segment, Shelf
from unit.execution.scripted import leaving_no_descriptor

NO_ANSWER = (ValueError, TypeError, LookupError, OSError)
"""As ``open_answers`` says."""
NO_PICTURES = {"kept": False, "pictures": False}
HUGE = 2**70


@pytest.mark.parametrize(
    "answers",
    [
        [[0, 40, 40, False]],
        [[4096, 1, 1, False]],
        [[4093, 1, 1, True]],
        [[-3, 1, 1, False]],
        [[0, 0, 4, False]],
        [[0, -1, 4, False]],
        [[0, 2**32, 2**32, False]],
        [[HUGE, 1, 1, False]],
        [[0, HUGE, 1, False]],
        [[0, float("inf"), 1, False]],
        [[0, 1, 1]],
        [[0, None, 1, False]],
        [["BadOutputError"]],
        [[]],
        [7],
        [{"a": 1}],
        None,
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_no_answer_is_refused(answers: object, *, kept: bool) -> None:
    segment = Segment.create(4096)
    message = {"answers": answers, "kept": kept, "pictures": True}
    with leaving_no_descriptor(), pytest.raises(NO_ANSWER):
        open_answers(message, os.dup(segment.fd or 0), Shelf())
    segment.close()


def test_a_picture_without_memory_is_refused() -> None:
    place = [[0, 1, 1, False]]
    for message in (
        {"answers": place, **NO_PICTURES},
        {"answers": place, "kept": True, "pictures": True},
    ):
        with pytest.raises(ValueError, match="no segment"):
            open_answers(message, None, Shelf())


@pytest.mark.parametrize(
    "message",
    [
        {"answers": [["BadOutputError", "x"]], **NO_PICTURES},
        {"answers": [], "pictures": True},
        {"answers": [], "kept": False},
        {"kept": False, "pictures": True},
    ],
)
def test_a_descriptor_that_nobody_wants_is_closed(message: Message) -> None:
    segment = Segment.create(10)
    fd = os.dup(segment.fd or 0)
    segment.close()
    with contextlib.suppress(*NO_ANSWER):
        open_answers(message, fd, Shelf())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_descriptor_of_something_else_is_refused_and_closed(tmp_path: Path) -> None:
    message = {"answers": [[0, 1, 1, False]], "kept": False, "pictures": True}
    (tmp_path / "file").write_bytes(bytes(100))
    with leaving_no_descriptor():
        reading, writing = os.pipe()
        for fd in (os.open(tmp_path / "file", os.O_RDWR), os.open("/dev/null", os.O_RDWR), reading):
            with pytest.raises(NO_ANSWER):
                open_answers(message, fd, Shelf())
        os.close(writing)
        with pytest.raises(NO_ANSWER):
            open_answers(message, os.memfd_create("empty", os.MFD_ALLOW_SEALING), Shelf())
