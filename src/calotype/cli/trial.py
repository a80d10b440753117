"""A tiny picture through a model: it compiles what is needed, and shows that the model works."""

import time

import numpy as np
from numpy.typing import NDArray

from calotype.domain.model import ModelSpec, ParamSpec
from calotype.local import Calotype

SIDE_PX = 32
STEPS = 2
PROMPT = "a test"


def trial(calotype: Calotype, spec: ModelSpec) -> float:
    """Run a model once for each scale that it offers, so that every network of it is compiled.

    Returns:
        Seconds, loading included.

    Raises:
        ConfigError: the model can't be loaded.
        BackendError: the model failed.
    """
    started_s = time.monotonic()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    parameters = trial_parameters(spec, pixels)
    scale = spec.param("scale")
    for choice in (scale.choices if scale else ()) or (None,):
        calotype.run_with(spec.id, pixels, parameters | {"scale": choice})
    return time.monotonic() - started_s


def trial_parameters(spec: ModelSpec, pixels: NDArray[np.uint8]) -> dict[str, object]:
    """Return what a model can't do without, and what makes it fast but leaves nothing out.

    Args:
        spec: of the model.
        pixels: (h, w, 3) uint8, the picture.
    """
    # Few steps are made in full at full strength; a share of them might be none.
    quick = {"num_inference_steps": STEPS, "strength": 1.0}
    parameters: dict[str, object] = {}
    for param in spec.params:
        if param.name == "mask_image":
            parameters[param.name] = _half(pixels)
        elif param.name in quick and not param.choices:
            parameters[param.name] = _within(param, quick[param.name])
        elif param.required:
            parameters[param.name] = _value(param, pixels)
    return parameters


def _half(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask of the right half."""
    mask = np.zeros_like(pixels)
    mask[:, pixels.shape[1] // 2 :] = 255
    return mask


def _value(param: ParamSpec, pixels: NDArray[np.uint8]) -> object:
    """Return some value that a parameter takes."""
    if param.choices:
        return param.choices[0]
    values: dict[str, object] = {
        "string": PROMPT,
        "number": _within(param, 1),
        "integer": _within(param, 1),
        "boolean": False,
        "image": pixels,
        "size": {"width": SIDE_PX, "height": SIDE_PX},
        "loras": [],
    }
    return values[param.type]


def _within(param: ParamSpec, value: float) -> float:
    """Return the nearest value that a parameter's limits allow."""
    low = value if param.minimum is None else max(value, param.minimum)
    found = low if param.maximum is None else min(low, param.maximum)
    return int(found) if param.type == "integer" else found
