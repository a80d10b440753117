import base64

import pytest

from calotype.domain.chain import Chain
from calotype.domain.model import ModelSpec, ParamSpec, ParamType
from calotype.domain.spelling import read_json, read_parameters, read_size
from calotype.errors import InvalidParameterError


def model(alias: str, **params: ParamType) -> ModelSpec:
    own = tuple(ParamSpec(name=name, type=kind, help="") for name, kind in params.items())
    return ModelSpec(id=f"test/{alias}", alias=alias, backend="fake", revision="1", params=own)


PAINT = model("paint", prompt="string", strength="number", seed="integer", guide="image")
STYLE = model("style", style="blend", keep="boolean")
ALONE = Chain((PAINT,))
BOTH = Chain((PAINT, STYLE))


def image(name: str, text: str) -> object:
    return f"{name}: {base64.b64decode(text).decode()}"


def read(
    chain: Chain, given: dict[str, object], tables: dict[str, dict[str, object]] | None = None
) -> dict[str, object]:
    return read_parameters(chain, given, tables or {}, image)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("prompt", "7", "7"),
        ("prompt", '{"a": 1}', '{"a": 1}'),
        ("strength", "0.5", 0.5),
        ("strength", "much", "much"),
        ("seed", "7", 7),
        ("seed", " 7 ", 7),
        ("guide", "aGVsbG8=", "guide: hello"),
        ("target_size", "8x6", {"width": 8, "height": 6}),
        ("output_format", "png", "png"),
        ("unheard", "true", True),
        ("unheard", "[1", "[1"),
    ],
)
def test_text_becomes_what_its_parameter_takes(name: str, text: str, expected: object) -> None:
    assert read(ALONE, {name: text}) == {name: expected}


def test_what_is_no_text_stays() -> None:
    given: dict[str, object] = {"strength": 0.5, "guide": b"bytes", "prompt": ["a", "b"]}
    assert read(ALONE, given) == given


def test_parameters_of_one_stage() -> None:
    found = read(BOTH, {"strength": "1"}, {"paint": {"seed": "3"}, "paint#1": {"prompt": "5"}})
    assert found == {"strength": 1, "paint": {"seed": 3}, "paint#1": {"prompt": "5"}}


def test_a_stage_called_like_a_parameter() -> None:
    found = read(BOTH, {"style": "neon"}, {"style": {"keep": "true"}})
    assert found == {"style": "neon", "style#1": {"keep": True}}


def test_an_object_under_a_stage_s_name() -> None:
    assert read(BOTH, {"style": ' {"style": "neon"}'}) == {"style": {"style": "neon"}}
    assert read(Chain((STYLE,)), {"style": '{"style": "neon"}'}) == {"style": '{"style": "neon"}'}


def test_a_broken_object_stays_text() -> None:
    assert read(BOTH, {"style": '{"style": '}) == {"style": '{"style": '}


@pytest.mark.parametrize("text", ["800x600", " 800 X 600 "])
def test_sizes(text: str) -> None:
    assert read_size("size", text) == {"width": 800, "height": 600}


@pytest.mark.parametrize("text", ["", "800", "x", "800x600x2", "-8x6", "8.5x6", "9999999999x1"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="size must be WxH such as 800x600, got"):
        read_size("size", text)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "", "nul"])
def test_what_is_no_json_stays_text(text: str) -> None:
    assert read_json(text) == text
