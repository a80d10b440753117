import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.blend import blend_text, is_choice_name, parse_blend
from calotype.errors import InvalidParameterError

NAMES = ("great-wave", "scream", "mosaic", "la-muse")


@pytest.mark.parametrize(
    "raw", [2, 2.0, "2", " 2 ", "mosaic", "MOSAIC", "mosaic:1", "2:1.0", "2:0.5,mosaic:0.5"]
)
def test_a_choice_by_number_or_name(raw: object) -> None:
    assert parse_blend("style", NAMES, raw) == (((2, 1.0),), False)


@pytest.mark.parametrize("raw", ["great-wave", "Great Wave", "great_wave", "  GREAT -_ wave "])
def test_names_are_read_in_any_spelling(raw: str) -> None:
    assert parse_blend("style", NAMES, raw) == (((0, 1.0),), False)


def test_a_mix_is_sorted_by_number() -> None:
    mixed, scaled = parse_blend("style", NAMES, " la muse : .25 ,great-wave:7.5e-1")
    assert (mixed, scaled) == (((0, 0.75), (3, 0.25)), False)


def test_weights_are_scaled_to_sum_to_one() -> None:
    assert parse_blend("style", NAMES, "1:1,0:3") == (((0, 0.75), (1, 0.25)), True)


@pytest.mark.parametrize(
    "raw",
    [
        *(-1, 4, 1.5, True, None, [], {}, math.nan, math.inf),
        *("", ":", ",", "4", "-1", "monet", "0,1", "9" * 50, "\u0662", "0" * 10_001),
        *("0:", "0:0", "0:-1", "0:nan", "0:inf", "0:1e999", "0:1,", "0:1_0", "0:1,9:1", "0:1:1"),
        *("0:1e308,1:1e308", "0:1e308,0:1e308"),
    ],
)
def test_what_is_no_blend_is_refused(raw: object) -> None:
    with pytest.raises(InvalidParameterError, match=r"^style must "):
        parse_blend("style", NAMES, raw)


def test_a_wrong_name_shows_the_range_and_the_closest() -> None:
    with pytest.raises(InvalidParameterError) as caught:
        parse_blend("style", NAMES, "grate wave")
    assert str(caught.value) == (
        'style must be a number in [0, 3] or a name, got "grate wave"; did you mean great-wave?'
    )


def test_a_weight_lost_in_scaling_is_left_out() -> None:
    assert parse_blend("style", NAMES, "0:1e300,1:1e-300") == (((0, 1.0),), True)


@given(
    st.dictionaries(st.integers(0, 3), st.floats(0, exclude_min=True, max_value=1e300), min_size=1)
)
def test_a_blend_is_ascending_sums_to_one_and_reads_back(weights: dict[int, float]) -> None:
    raw = ",".join(f"{index}:{weight!r}" for index, weight in weights.items())
    mixed, _ = parse_blend("style", NAMES, raw)
    assert [index for index, _ in mixed] == sorted({index for index, _ in mixed})
    assert math.fsum(weight for _, weight in mixed) == pytest.approx(1, abs=2e-6)
    assert all(weight > 0 for _, weight in mixed)
    assert parse_blend("style", NAMES, blend_text(mixed)) == (mixed, False)


@given(st.text())
def test_any_text_is_a_blend_or_refused(text: str) -> None:
    message = ""
    try:
        parse_blend("style", NAMES, text)
    except InvalidParameterError as error:
        message = str(error)
    assert message.isascii()


@pytest.mark.parametrize("name", ["5", "A", "a:b", "a,b", "", "-a", "a b", "a--b", "a\n", 5, None])
def test_names_that_a_choice_cannot_have(name: object) -> None:
    assert not is_choice_name(name)


def test_names_that_a_choice_can_have() -> None:
    assert is_choice_name("great-wave")
    assert is_choice_name("style-0")
