import pytest

from calotype.domain.lora import MAX_LORAS, parse_loras
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import apply_params, canonical, shown
from calotype.domain.request import Stage
from calotype.domain.schema import json_schema
from calotype.errors import InvalidParameterError

SPEC = ModelSpec(
    id="a/b",
    backend="fake",
    revision="1",
    params=(ParamSpec(name="loras", type="loras", help="adapters"),),
)


@pytest.mark.parametrize(
    ("raw", "scales"),
    [
        ("acme/pixel", (("acme/pixel", 1.0),)),
        ("acme/pixel:0.8, ink", (("acme/pixel", 0.8), ("ink", 1.0))),
        (["ink:-2"], (("ink", -2.0),)),
        ([{"id": "ink"}, {"id": "a/b", "scale": 0}], (("ink", 1.0), ("a/b", 0.0))),
        ([], ()),
        ("", ()),
    ],
)
def test_spellings(raw: object, scales: tuple[tuple[str, float], ...]) -> None:
    assert parse_loras("loras", raw).scales == scales


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (5, "loras must be a list of"),
        ({"id": "a"}, "loras must be a list of"),
        ([{"name": "a"}], "loras must be a list of"),
        ([{"id": "../../etc/passwd"}], "loras must be a list of"),
        (["/etc/passwd"], "loras must be a list of"),
        (["a/../b"], "loras must be a list of"),
        (["a" * 97], "loras must be a list of"),
        (["a/b/c"], "loras must be a list of"),
        ([{"id": 3}], "loras must be a list of"),
        ([3], "loras must be a list of"),
        (["a", "a:0.5"], "loras must name each adapter once"),
        ([{"id": "a", "scale": "1"}], r"the scale of a must be a number in \[-10, 10\], got"),
        ([{"id": "a", "scale": True}], "the scale of a must be"),
        ([{"id": "a", "scale": float("nan")}], "the scale of a must be"),
        ([{"id": "a", "scale": 11}], "the scale of a must be"),
        ("a:x", "the scale of a must be"),
        ([str(n) for n in range(MAX_LORAS + 1)], f"loras must be at most {MAX_LORAS}, got 9"),
    ],
)
def test_anything_else_is_refused(raw: object, said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        parse_loras("loras", raw)


def test_equal_adapters_are_one_key_and_shown_as_sent() -> None:
    text = apply_params(SPEC, {"loras": "a/b:0.5"}).values
    listed = apply_params(SPEC, {"loras": [{"id": "a/b", "scale": 0.5}]}).values
    other = apply_params(SPEC, {"loras": "a/b:0.6"}).values
    assert canonical(text) == canonical(listed) != canonical(other)
    assert shown([Stage(model=SPEC, values=text)]) == '{"loras": [{"id": "a/b", "scale": 0.5}]}'


def test_the_schema_allows_both_spellings() -> None:
    properties = json_schema(SPEC)["properties"]
    assert isinstance(properties, dict)
    assert [one["type"] for one in properties["loras"]["oneOf"]] == ["array", "string"]
