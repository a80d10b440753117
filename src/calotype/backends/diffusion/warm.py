"""What a pipeline does before it is ready: one small picture that nobody asked for."""

import logging
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from calotype.domain.image import Image, Size
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, ParamValue

logger = logging.getLogger(__name__)

STEPS = 2


class Runs(Protocol):
    """A backend."""

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run jobs."""
        ...


def warm_up(backend: Runs, spec: ModelSpec, side: int) -> None:
    """Run a picture, so that networks are converted or compiled before anybody waits.

    Args:
        backend: runs it.
        spec: its model.
        side: of the picture, pixels; compiled networks depend on it, converted ones don't.
    """
    pixels = np.full((side, side, 3), 128, np.uint8)
    params: dict[str, ParamValue] = {param.name: param.default for param in spec.params}
    params |= {"prompt": "", "seed": 0, "num_inference_steps": STEPS, "loras": None}
    if "strength" in params:
        params["strength"] = 1.0
    masks = {"mask_image": Image(np.full_like(pixels, 255))} if "mask_image" in params else {}
    params.pop("mask_image", None)
    started_s = time.monotonic()
    logger.info("preparing %s, which takes a while the first time", spec.id)
    job = Job(model=spec, image=Image(pixels), params=params, images=masks)
    (image,) = backend.run([job])
    took_s, size = time.monotonic() - started_s, Size(height_px=side, width_px=side)
    logger.info(
        "prepared %s in %.1f s, with %s and a picture of %s", spec.id, took_s, size, image.size
    )
