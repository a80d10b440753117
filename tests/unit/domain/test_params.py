import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.image import Size
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import KNOWN, RESERVED, apply_params, canonical, shown
from calotype.domain.request import ParamValue, Stage
from calotype.errors import InvalidParameterError, MalformedRequestError

UPSCALE = ModelSpec(id="acme/up", alias="upscale", backend="fake", revision="1")
PAINTER = ModelSpec(
    id="acme/painter",
    backend="fake",
    revision="1",
    params=(
        ParamSpec(name="style", type="blend", help="", default="b", choices=("a", "b", "c")),
        ParamSpec(name="strength", type="number", help="", default=1, minimum=0, maximum=1),
        ParamSpec(name="steps", type="integer", help="", minimum=1, maximum=9),
        ParamSpec(name="keep", type="boolean", help="", default=False),
        ParamSpec(name="prompt", type="string", help=""),
        ParamSpec(name="negative_prompt", type="string", help=""),
        ParamSpec(name="mask_image", type="image", help=""),
        ParamSpec(name="seed", type="integer", help=""),
    ),
)
BY_PICTURE = ModelSpec(
    id="acme/by-picture",
    alias="style-image",
    backend="fake",
    revision="1",
    params=(ParamSpec(name="style_image", type="image", help=KNOWN["style_image"], required=True),),
)


def _values(raw: Mapping[str, object], spec: ModelSpec = PAINTER) -> Mapping[str, ParamValue]:
    return apply_params(spec, raw).values


def written(spec: ModelSpec, values: Mapping[str, ParamValue]) -> str:
    return shown([Stage(model=spec, values=values)])


def _refusal(spec: ModelSpec, raw: Mapping[str, object], *, strict: bool = False) -> str:
    with pytest.raises(InvalidParameterError) as caught:
        apply_params(spec, raw, strict=strict)
    return str(caught.value)


def test_defaults_are_filled_in() -> None:
    assert _values({}) == {
        "style": ((1, 1.0),),
        "strength": 1.0,
        "steps": None,
        "keep": False,
        "prompt": None,
        "negative_prompt": None,
        "mask_image": None,
        "seed": None,
        "target_size": None,
        "output_format": None,
    }


def test_null_means_not_given() -> None:
    applied = apply_params(PAINTER, {"strength": None, "foo": None, "width": None}, strict=True)
    assert applied == apply_params(PAINTER, {})


def test_width_and_height_are_the_target_size() -> None:
    size = Size(height_px=4, width_px=3)
    assert _values({"width": 3, "height": 4}, UPSCALE)["target_size"] == size
    assert _values({"target_size": {"width": 3, "height": 4}}, UPSCALE)["target_size"] == size
    both = {"target_size": {"width": 3, "height": 4}, "width": 3, "height": 4}
    assert _values(both, UPSCALE)["target_size"] == size


def test_half_a_size_and_two_different_sizes_are_refused() -> None:
    assert _refusal(UPSCALE, {"width": 3}) == "width and height come together, got only width"
    assert _refusal(UPSCALE, {"width": 3, "height": 0}) == "height must be in [1, 16384], got 0"
    both = {"target_size": {"width": 3, "height": 4}, "width": 5, "height": 4}
    assert _refusal(UPSCALE, both) == (
        "target_size must be the same as width and height, got 3x4 and 5x4"
    )


def test_output_format() -> None:
    assert _values({"output_format": "jpg"})["output_format"] == "jpeg"
    assert _values({"output_format": "PNG"})["output_format"] == "png"
    message = 'output_format must be one of png, jpeg, webp, got "gif"'
    assert _refusal(UPSCALE, {"output_format": "gif"}) == message


def test_a_seed_has_63_bits() -> None:
    assert _values({"seed": 2**63 - 1})["seed"] == 2**63 - 1
    assert _refusal(PAINTER, {"seed": -1}) == "seed must be in [0, 9223372036854775807], got -1"
    assert "seed must be in" in _refusal(PAINTER, {"seed": 2**63})


def test_a_missing_parameter_is_named_with_its_help() -> None:
    message = "style_image is required by style-image: any picture, base64-encoded"
    assert _refusal(BY_PICTURE, {}) == message
    assert _refusal(BY_PICTURE, {"style_image": None}) == message
    with pytest.raises(MalformedRequestError, match=r"^style_image is a URL"):
        apply_params(BY_PICTURE, {"style_image": "https://a/b.png"})


def test_what_is_known_but_not_used_is_ignored_with_a_warning() -> None:
    applied = apply_params(UPSCALE, {"guidance_scale": "not even a number"})
    assert applied.warnings == (
        "parameters; guidance_scale was ignored: upscale takes no guidance scale",
    )
    assert "guidance_scale" not in applied.values
    assert _refusal(UPSCALE, {"guidance_scale": 1}, strict=True) == (
        "guidance_scale is refused: upscale takes no guidance scale"
    )


def test_what_is_unknown_is_ignored_with_a_hint() -> None:
    applied = apply_params(PAINTER, {"stile": 1, "xyz": 2})
    assert applied.warnings == (
        "parameters; stile was ignored: not a parameter of Calotype; did you mean style?",
        "parameters; xyz was ignored: not a parameter of Calotype",
    )
    assert _refusal(PAINTER, {"xyz": 2}, strict=True) == "xyz is not a parameter of Calotype"


def test_many_warnings_are_counted() -> None:
    warnings = apply_params(UPSCALE, {f"p{i}": 1 for i in range(27)}).warnings
    assert len(warnings) == 21
    assert warnings[-1] == "parameters; and 7 more were ignored"


def test_scaled_weights_are_a_warning_and_refused_when_strict() -> None:
    applied = apply_params(PAINTER, {"style": "0:1,2:1"})
    assert applied.values["style"] == ((0, 0.5), (2, 0.5))
    assert applied.warnings == ("parameters; style weights were scaled to sum to 1",)
    message = 'style weights must sum to 1, got "0:1,2:1"'
    assert _refusal(PAINTER, {"style": "0:1,2:1"}, strict=True) == message


def test_every_common_parameter_is_known() -> None:
    assert set(KNOWN) >= RESERVED


def test_canonical_text() -> None:
    values: dict[str, ParamValue] = {
        "b": Size(height_px=4, width_px=3),
        "a": ((3, 0.5), (12, 0.5)),
        "c": None,
        "d": b"",
        "e": 1.0,
    }
    digest = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    assert canonical(values) == (
        '{"a":"3:0.5,12:0.5","b":{"height":4,"width":3},"c":null,'
        f'"d":"blake2b:{digest}","e":1.0}}'
    )


def test_the_same_request_in_other_words_is_canonically_equal() -> None:
    one = {"strength": 1, "style": "B", "target_size": {"width": 8, "height": 9}, "steps": 2.0}
    other = {"height": 9, "steps": 2, "width": 8, "style": 1, "output_format": None}
    assert canonical(_values(one)) == canonical(_values(other))


prompts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
images = st.binary(min_size=1, max_size=3).map(lambda b: base64.b64encode(b).decode())
good_requests = st.fixed_dictionaries(
    {},
    optional={
        "style": st.sampled_from(
            [0, 1, "1", "b", "c", "0:0.5,1:0.5", "b:0.5,a:0.5", "a:0.4,c:0.6"]
        ),
        "strength": st.sampled_from([0, 0.0, 0.5, 1, 1.0]),
        "steps": st.sampled_from([1, 1.0, 2]),
        "keep": st.booleans(),
        "prompt": prompts,
        "mask_image": images,
        "seed": st.integers(0, 3),
        "target_size": st.fixed_dictionaries({"width": st.just(1), "height": st.integers(1, 2)}),
        "output_format": st.sampled_from(["png", "jpg", "jpeg"]),
    },
)


@given(good_requests, good_requests)
def test_canonical_is_equal_exactly_when_the_values_are(
    one: dict[str, object], other: dict[str, object]
) -> None:
    left, right = _values(one), _values(dict(reversed(other.items())))
    assert (canonical(left) == canonical(right)) == (left == right)


def test_shown_is_what_was_used() -> None:
    raw = {"style": "a:0.5,c:0.5", "mask_image": "AAAA", "width": 3, "height": 4}
    assert written(PAINTER, _values(raw)) == (
        '{"style": "0:0.5,2:0.5", "strength": 1.0, "keep": false, '
        '"mask_image": "sha256:709e80c88487a241", "target_size": {"width": 3, "height": 4}}'
    )


def test_shown_fits_a_header_whatever_the_prompts() -> None:
    for character in ("a", "\u00e4", "\U0001f600", '"', "\n"):
        raw = {"prompt": character * 9999, "negative_prompt": character * 9999}
        text = written(PAINTER, _values(raw))
        assert len(text) < 4096
        assert text.isascii()
        assert text.isprintable()
        assert json.loads(text)["prompt"].startswith(character * 20)


def test_shown_gives_up_on_a_model_with_very_many_parameters() -> None:
    many = tuple(
        ParamSpec(name=f"p{i:03}", type="string", help="", default="a" * 20) for i in range(200)
    )
    spec = ModelSpec(id="many", backend="fake", revision="1", params=many)
    assert written(spec, _values({}, spec)) == "{}"


names = st.sampled_from([p.name for p in PAINTER.params] + sorted(KNOWN)) | st.text(max_size=80)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(names, json_values, max_size=30), st.booleans())
def test_any_parameters_are_applied_or_refused(raw: dict[str, object], strict: bool) -> None:
    try:
        applied = apply_params(PAINTER, raw, strict=strict)
    except (InvalidParameterError, MalformedRequestError) as error:
        texts: tuple[str, ...] = (str(error),)
    else:
        assert not (strict and applied.warnings)
        assert json.loads(canonical(applied.values)).keys() == applied.values.keys()
        texts = (*applied.warnings, written(PAINTER, applied.values))
    assert all(text.isascii() and text.isprintable() for text in texts)
