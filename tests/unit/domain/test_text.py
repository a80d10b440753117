import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.text import printable, show_value, toml_text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(), st.integers(0, 50))
def test_printable_is_one_short_ascii_line(text: str, limit: int) -> None:
    safe = printable(text, limit)
    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) <= limit + 3


@given(json_values)
def test_a_value_is_shown_as_short_ascii_json(value: object) -> None:
    shown = show_value(value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 103
    assert shown.endswith("...") or shown == json.dumps(value)


def test_a_value_of_great_depth_or_length_costs_no_more_than_is_shown() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    assert show_value(deep) == "[" * 100 + "..."
    assert show_value("a" * 50_000_000) == '"' + "a" * 99 + "..."


def test_what_json_cannot_hold_is_named_by_its_type() -> None:
    assert show_value(b"abc") == '"bytes"'
    assert show_value(10**5000) == "<int>"


@pytest.mark.parametrize("written", ["ok \U0001f600", 'with "quotes"', "bell\x07 and\x7f", "a\\b"])
def test_any_text_is_written_as_toml(written: str) -> None:
    found = tomllib.loads(f"written = {toml_text(written)}")["written"]
    assert found == "".join(c if c.isprintable() else " " for c in written)
