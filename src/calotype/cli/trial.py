"""A tiny picture through a model: it compiles what is needed, and shows that the model works."""

import time

import numpy as np

from calotype.domain.model import ModelSpec
from calotype.local import Calotype

SIDE_PX = 32


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
    parameters: dict[str, object] = {
        param.name: pixels if param.type == "image" else "a test"
        for param in spec.params
        if param.required
    }
    scale = spec.param("scale")
    for choice in (scale.choices if scale else ()) or (None,):
        calotype.run_with(spec.id, pixels, parameters | {"scale": choice})
    return time.monotonic() - started_s
