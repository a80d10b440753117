import json
import re
from typing import Any

import pytest

from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.schema import json_schema

SPEC = ModelSpec(
    id="acme/painter",
    backend="fake",
    revision="1",
    params=(
        ParamSpec(name="style", type="blend", help="The style.", default=0, choices=("a-b", "c")),
        ParamSpec(name="strength", type="number", help="", default=1, minimum=0, maximum=1),
        ParamSpec(name="scale", type="integer", help="", choices=(2, 4)),
        ParamSpec(name="style_image", type="image", help="", required=True),
        ParamSpec(name="prompt", type="string", help=""),
        ParamSpec(name="negative_prompt", type="string", help=""),
    ),
)


def _properties() -> dict[str, Any]:
    properties = json_schema(SPEC)["properties"]
    assert isinstance(properties, dict)
    return properties


def test_it_is_an_open_object_with_required_names() -> None:
    schema = json_schema(SPEC)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is True
    assert schema["required"] == ["style_image"]
    assert json.loads(json.dumps(schema)) == schema
    assert "required" not in json_schema(ModelSpec(id="a", backend="b", revision="1"))


def test_each_parameter_is_described_by_its_type() -> None:
    properties = _properties()
    assert properties["strength"] == {
        "description": "",
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 1,
    }
    assert properties["scale"] == {"description": "", "type": "integer", "enum": [2, 4]}
    assert properties["style_image"]["contentEncoding"] == "base64"
    assert properties["prompt"]["maxLength"] == 10_000
    assert [kind["type"] for kind in properties["negative_prompt"]["oneOf"]] == ["string", "array"]


def test_the_common_parameters_are_there() -> None:
    properties = _properties()
    assert properties["output_format"]["enum"] == ["png", "jpeg", "webp"]
    assert properties["target_size"]["required"] == ["width", "height"]


@pytest.mark.parametrize(
    "text", ["0", "a-b", "A b", " 0", "0:0.5,c:.5", " 0 : 1e-1 , c:1", "a_b:2."]
)
def test_a_blend_matches_its_pattern(text: str) -> None:
    assert re.search(_properties()["style"]["oneOf"][1]["pattern"], text)


@pytest.mark.parametrize("text", ["", "0:", "0:1,", "0,1", "0:-1", ":"])
def test_what_is_no_blend_does_not_match(text: str) -> None:
    assert not re.search(_properties()["style"]["oneOf"][1]["pattern"], text)


def test_a_blend_is_a_number_or_text() -> None:
    number, text = _properties()["style"]["oneOf"]
    assert number == {"type": "integer", "minimum": 0, "maximum": 1}
    assert text["examples"] == ["a-b", "c"]
