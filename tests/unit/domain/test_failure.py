"""Errors as two texts."""

import pytest

from calotype.domain.failure import describe, error_of
from calotype.domain.hooks import JobCancelledError
from calotype.errors import BadImageError, BadOutputError, ModelCrashedError


@pytest.mark.parametrize("error", [BadImageError("no picture"), JobCancelledError("stopped")])
def test_an_error_comes_back_as_it_was(error: Exception) -> None:
    again = error_of(*describe(error))
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("name", "text"), [("os", "x"), ("CalotypeError_", "x"), ("ClassVar", "x"), ("", "")]
)
def test_an_error_of_no_known_name_is_a_crash(name: str, text: str) -> None:
    assert type(error_of(name, text)) is ModelCrashedError


def test_a_foreign_error_is_named_and_long_texts_are_cut() -> None:
    assert describe(KeyError("x")) == ("ModelCrashedError", "KeyError('x')")
    assert describe(MemoryError())[0] == "OutOfMemoryError"
    assert len(describe(BadOutputError("x" * 10**6))[1]) < 10_000
