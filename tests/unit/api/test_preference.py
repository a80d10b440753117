import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.api.header import MAX_WAIT_S, Preference, read_preference


@pytest.mark.parametrize(
    ("sent", "is_async", "wait_s"),
    [
        (b"respond-async", True, 0),
        (b"Respond-Async, wait=10", True, 10),
        (b"wait=10, respond-async;x=y", True, 10),
        (b'wait="7"', False, 7),
        (b"wait = 3", False, 3),
        (b"wait=3, wait=9", False, 3),
        (b"wait=-1", False, 0),
        (b"wait=1e3", False, 0),
        (b"wait=999999999", False, MAX_WAIT_S),
        (b"wait=9999999999999999999999", False, 0),
        (b"respond-asynchronously", False, 0),
        (b"return=minimal", False, 0),
        (b"", False, 0),
    ],
)
def test_preferences(sent: bytes, is_async: bool, wait_s: float) -> None:
    assert read_preference({b"prefer": sent}) == Preference(is_async=is_async, wait_s=wait_s)


def test_no_preference() -> None:
    assert read_preference({}) == Preference()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_preference(sent: bytes) -> None:
    assert 0 <= read_preference({b"prefer": sent}).wait_s <= MAX_WAIT_S
