import numpy as np

from calotype.cli.trial import trial_parameters
from calotype.domain.model import ModelSpec, ParamSpec, ParamType

PIXELS = np.zeros((32, 32, 3), np.uint8)


def _param(name: str, type: ParamType, **said: object) -> ParamSpec:
    return ParamSpec(name=name, type=type, help="", **said)  # type: ignore[arg-type]


def _given(*params: ParamSpec) -> dict[str, object]:
    return trial_parameters(ModelSpec(id="a/b", backend="x", revision="r", params=params), PIXELS)


def test_a_model_without_needs_gets_nothing() -> None:
    assert _given(_param("prompt", "string", default=""), _param("seed", "integer")) == {}


def test_few_steps_in_full() -> None:
    assert _given(
        _param("prompt", "string", required=True),
        _param("num_inference_steps", "integer", default=50, minimum=1, maximum=500),
        _param("strength", "number", default=0.3, minimum=0, maximum=1),
    ) == {"prompt": "a test", "num_inference_steps": 2, "strength": 1.0}


def test_limits_are_kept() -> None:
    steps = _param("num_inference_steps", "integer", maximum=1.0)
    given = _given(steps, _param("strength", "number", minimum=0, maximum=0.5))
    assert given == {"num_inference_steps": 1, "strength": 0.5}
    assert isinstance(given["num_inference_steps"], int)


def test_half_of_the_picture_is_repainted() -> None:
    """A mask is optional, because a transparent picture needs none; the trial's isn't."""
    mask = np.asarray(_given(_param("mask_image", "image"))["mask_image"])
    assert mask.shape == PIXELS.shape
    assert mask.mean() == 127.5
    assert mask[:, -1].min() == 255


def test_whatever_else_is_required() -> None:
    assert _given(
        _param("kind", "string", required=True, choices=("ink", "oil")),
        _param("amount", "number", required=True, minimum=2.5),
        _param("count", "integer", required=True, minimum=3),
        _param("fast", "boolean", required=True),
        _param("loras", "loras", required=True),
        _param("area", "size", required=True),
    ) == {
        "kind": "ink",
        "amount": 2.5,
        "count": 3,
        "fast": False,
        "loras": [],
        "area": {"width": 32, "height": 32},
    }
    assert _given(_param("style_image", "image", required=True))["style_image"] is PIXELS
