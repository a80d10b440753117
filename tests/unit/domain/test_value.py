import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.image import Size
from calotype.domain.model import ParamSpec, ParamType
from calotype.domain.value import parse_value
from calotype.errors import InvalidParameterError, MalformedRequestError


def _spec(
    type: ParamType,
    *,
    name: str = "p",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str | int, ...] = (),
) -> ParamSpec:
    return ParamSpec(
        name=name, type=type, help="", minimum=minimum, maximum=maximum, choices=choices
    )


def _refusal(spec: ParamSpec, raw: object) -> str:
    with pytest.raises(InvalidParameterError) as caught:
        parse_value(spec, raw)
    return str(caught.value)


STRENGTH = _spec("number", name="strength", minimum=0, maximum=1)
SCALE = _spec("integer", name="scale", choices=(2, 3, 4))


def test_a_number_is_always_a_float() -> None:
    values = [parse_value(STRENGTH, raw) for raw in (1, 1.0)]
    assert [repr(value) for value in values] == ["1.0", "1.0"]
    assert repr(parse_value(STRENGTH, -0.0)) == "0.0"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (1.5, "strength must be in [0, 1], got 1.5"),
        ("abc", 'strength must be a number, got "abc"'),
        (True, "strength must be a number, got true"),
        (math.nan, "strength must be a finite number, got NaN"),
        (10**400, f"strength must be a finite number, got 1{'0' * 99}..."),
        ([1], "strength must be a number, got [1]"),
    ],
)
def test_what_is_no_number_in_range(raw: object, message: str) -> None:
    assert _refusal(STRENGTH, raw) == message


def test_a_range_with_one_end() -> None:
    assert _refusal(_spec("number", minimum=0.0), -1) == "p must be at least 0, got -1"
    assert _refusal(_spec("integer", maximum=0.5), 1) == "p must be at most 0.5, got 1"


def test_an_integral_float_is_an_integer() -> None:
    assert repr(parse_value(SCALE, 4.0)) == "4"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (5, "scale must be one of 2, 3, 4, got 5"),
        (2.5, "scale must be an integer, got 2.5"),
        (False, "scale must be an integer, got false"),
        ("4", 'scale must be an integer, got "4"'),
        (math.inf, "scale must be an integer, got Infinity"),
    ],
)
def test_what_is_no_such_integer(raw: object, message: str) -> None:
    assert _refusal(SCALE, raw) == message


def test_an_integer_has_at_most_64_bits() -> None:
    assert parse_value(_spec("integer"), -(2**63)) == -(2**63)
    assert "an integer of 64 bits" in _refusal(_spec("integer"), 2**63)
    assert "an integer of 64 bits" in _refusal(_spec("integer"), 1e300)


def test_a_boolean_is_true_or_false_only() -> None:
    assert parse_value(_spec("boolean"), False) is False
    assert _refusal(_spec("boolean"), 1) == "p must be true or false, got 1"


def test_text() -> None:
    assert parse_value(_spec("string"), "a cat") == "a cat"
    assert _refusal(_spec("string"), 5) == "p must be a string, got 5"
    assert _refusal(_spec("string"), ["a"]) == 'p must be a string, got ["a"]'
    long = "p must have at most 10000 characters, got 10001"
    assert _refusal(_spec("string"), "a" * 10_001) == long
    assert _refusal(_spec("string"), "\ud800") == 'p must be valid Unicode, got "\\ud800"'
    assert _refusal(_spec("string", choices=("a", "b")), "c") == 'p must be one of a, b, got "c"'


def test_a_list_of_negative_prompts_is_joined() -> None:
    spec = _spec("string", name="negative_prompt")
    assert parse_value(spec, ["blur", "noise"]) == "blur, noise"
    assert _refusal(spec, ["blur", 1]) == 'negative_prompt must be a string, got ["blur", 1]'


def test_an_image_stays_encoded() -> None:
    assert parse_value(_spec("image"), base64.b64encode(b"png").decode()) == b"png"
    assert parse_value(_spec("image"), b"png") == b"png"
    assert _refusal(_spec("image"), 5) == "p must be a picture, base64-encoded, got 5"
    with pytest.raises(MalformedRequestError, match=r"^p must be a picture"):
        parse_value(_spec("image"), "!")


def test_a_size_needs_both_sides() -> None:
    spec = _spec("size", name="target_size")
    assert parse_value(spec, {"width": 3, "height": 4.0}) == Size(height_px=4, width_px=3)
    assert _refusal(spec, {"width": 3}).startswith('target_size must be {"width": integer')
    message = "target_size.width must be in [1, 16384], got 0"
    assert _refusal(spec, {"width": 0, "height": 4}) == message
    message = "target_size.height must be an integer, got null"
    assert _refusal(spec, {"width": 3, "height": None}) == message


def test_scaled_weights_are_noted() -> None:
    notes: list[tuple[str, str]] = []
    spec = _spec("blend", name="style", choices=("a", "b"))
    assert parse_value(spec, "0:1,1:1", lambda *note: notes.append(note)) == ((0, 0.5), (1, 0.5))
    assert parse_value(spec, "0:1,1:1") == ((0, 0.5), (1, 0.5))
    assert notes == [
        ("style weights were scaled to sum to 1", 'style weights must sum to 1, got "0:1,1:1"')
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("width"), inner),
    max_leaves=10,
)
specs = st.sampled_from(
    [
        *(STRENGTH, SCALE, _spec("number"), _spec("boolean"), _spec("string"), _spec("image")),
        *(_spec("size"), _spec("string", name="negative_prompt"), _spec("blend", choices=("a",))),
    ]
)


@given(specs, json_values)
def test_any_json_is_a_value_or_refused_in_one_short_line(spec: ParamSpec, raw: object) -> None:
    message = spec.name
    try:
        parse_value(spec, raw)
    except (InvalidParameterError, MalformedRequestError) as error:
        message = str(error)
    assert message.startswith(spec.name)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300
