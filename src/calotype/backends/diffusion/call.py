"""From jobs to one call of a pipeline."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch

from calotype.backends.diffusion.size import work_size
from calotype.domain.diffusion import REQUIRED, guidance_name, mapping
from calotype.domain.image import Size
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.errors import InvalidParameterError

SHARED = (
    "num_inference_steps",
    "strength",
    "noise_level",
    "true_cfg_scale",
    "target_size",
    "loras",
)
"""Parameters that jobs must have in common to share a call."""
EACH = ("guidance_scale", "image_guidance_scale")
"""Parameters of which each job of a call can have its own."""
LEAST_SHARE, MOST_SHARE, ENLARGED_SHARE = 0.25, 1.5, 16.0
"""Of the native area: what a network still makes good pictures at."""
PIXELWISE = ("LDMSuperResolutionPipeline", "StableDiffusionUpscalePipeline")
"""Pipelines whose network sees the small picture as it is, and not a code of it."""
MULTIPLES: Mapping[str, int] = {
    "LDMSuperResolutionPipeline": 32,
    "StableDiffusionLatentUpscalePipeline": 64,
    "StableDiffusionUpscalePipeline": 64,
}
"""What these round the sides of their input to by themselves, without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What a pipeline takes, and at which sizes it works."""

    defaults: Mapping[str, object]
    native_px: int
    multiple_px: int
    longest_px: float
    """Bound on both sides."""
    scale: int
    embeds_guidance: bool = False
    """Whether the network reads the guidance as an input, and is not called without a prompt."""
    most_noise: int | None = None
    """Bound on ``noise_level``."""
    original_steps: int | None = None
    """Steps of which a consistency model takes a few; None: it is none."""

    @classmethod
    def of(cls, pipe: Any, spec: ModelSpec) -> "Interface":
        """Read it off a pipeline; what the catalog says beats what is found."""
        parameters = inspect.signature(type(pipe).__call__).parameters
        empty = inspect.Parameter.empty
        return cls(
            defaults={
                name: REQUIRED if parameter.default is empty else parameter.default
                for name, parameter in parameters.items()
                if name != "self"
            },
            native_px=int(spec.options.get("native_px", 0)) or _native_px(pipe),
            multiple_px=int(spec.options.get("multiple_px", 0)) or _multiple_px(pipe),
            longest_px=_longest_px(pipe),
            embeds_guidance=bool(_config(pipe, "unet").get("time_cond_proj_dim")),
            most_noise=_config(pipe).get("max_noise_level"),
            original_steps=_original_steps(pipe),
            scale=spec.scale or 1,
        )

    def size(self, job: Job) -> Size:
        """Return the size at which a job's picture goes into the pipeline."""
        target = job.params.get("target_size")
        wanted = target if isinstance(target, Size) and self.scale == 1 else job.image.size
        return work_size(wanted, self.areas, self.multiple_px, self.longest_px)

    @property
    def areas(self) -> tuple[float, float]:
        """Least and most pixels that the pipeline makes good pictures of.

        What enlarges was trained on cut-outs, and takes small pictures and large ones.
        """
        least, most = (0.0, ENLARGED_SHARE) if self.scale > 1 else (LEAST_SHARE, MOST_SHARE)
        return least * self.native_px**2, most * self.native_px**2

    @property
    def guides_by_negative(self) -> bool:
        """Whether there is guidance only where a negative prompt is given."""
        return mapping(self.defaults).get(guidance_name(self.defaults)) == "true_cfg_scale"

    def guided(self, job: Job) -> bool:
        """Tell whether the negative prompt, or its absence, counts."""
        if self.embeds_guidance:
            return False
        name = guidance_name(self.defaults)
        source = job.params.get("image_guidance_scale")
        return _above_one(job.params.get(name)) and (source is None or float(str(source)) >= 1)

    def _check(self, job: Job) -> None:
        """Refuse values that pipelines refuse in their own words, or fail over."""
        noise = job.params.get("noise_level")
        if isinstance(noise, int) and self.most_noise is not None and noise > self.most_noise:
            raise InvalidParameterError(
                f"noise_level must be at most {self.most_noise} for this model, got {noise}"
            )
        steps, strength = job.params.get("num_inference_steps"), job.params.get("strength")
        if not isinstance(steps, int) or not isinstance(strength, float):
            return
        if self.original_steps is not None:
            if steps > (most := int(self.original_steps * strength)):
                raise InvalidParameterError(
                    f"num_inference_steps must be at most {most} at a strength of {strength:g} for"
                    f" this model, got {steps}; send a larger strength or fewer steps"
                )
        elif int(steps * strength) < 1:
            raise InvalidParameterError(
                "strength x num_inference_steps is the number of steps that are made, and must be"
                f" at least 1, got {strength:g} x {steps}; send a larger strength or more steps"
            )

    def arguments(self, jobs: Sequence[Job], size: Size) -> dict[str, Any]:
        """Return the arguments of one call for jobs that can share one.

        Raises:
            InvalidParameterError: values that don't go together.
        """
        first, single = jobs[0], len(jobs) == 1
        self._check(first)
        names = mapping(self.defaults)
        arguments: dict[str, Any] = {"output_type": "pil"}
        for ours, theirs in names.items():
            values = [job.params.get(ours) for job in jobs]
            if ours in SHARED or single:
                arguments[theirs] = values[0]
            elif ours in EACH:
                arguments[theirs] = _together([float(str(value)) for value in values])
            else:
                arguments[theirs] = None if values[0] is None else values
        images = [picture(job, size) for job in jobs]
        arguments["image"] = images[0] if single else images
        if "mask_image" in names:
            masks = [mask(job, size) for job in jobs]
            arguments["mask_image"] = masks[0] if single else masks
        if {"height", "width"} <= set(self.defaults):
            arguments |= {"height": size.height_px, "width": size.width_px}
        # The picture has the right size already.
        own = {"_auto_resize": False, "max_area": size.pixels}
        arguments |= {name: value for name, value in own.items() if name in self.defaults}
        if "generator" in self.defaults:
            generators = [torch.Generator("cpu").manual_seed(seed(job)) for job in jobs]
            arguments["generator"] = generators[0] if single else generators
        return {name: value for name, value in arguments.items() if value is not None}


class PerPicture:
    """A number for each picture of a batch, where pipelines expect one for all.

    Args:
        values: one a picture.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self._values = tuple(values)

    def __gt__(self, bound: float) -> bool:
        return all(value > bound for value in self._values)

    def __ge__(self, bound: float) -> bool:
        return all(value >= bound for value in self._values)

    def __mul__(self, other: torch.Tensor) -> torch.Tensor:
        # In 32 bits, as a plain number would be: 7.3 is none of the numbers that 16 bits can hold.
        factors = torch.tensor(self._values, dtype=torch.float32, device=other.device)
        product = factors.reshape(-1, *(1,) * (other.dim() - 1)) * other.float()
        return product.to(other.dtype)

    __rmul__ = __mul__


def seed(job: Job) -> int:
    """Return what the job's random draws start from."""
    value = job.params.get("seed")
    return value if isinstance(value, int) else 0


def picture(job: Job, size: Size) -> PIL.Image.Image:
    """Return the job's picture at a size."""
    image = PIL.Image.fromarray(np.ascontiguousarray(job.image.pixels))
    return _resized(image, size, PIL.Image.Resampling.LANCZOS)


def mask(job: Job, size: Size) -> PIL.Image.Image:
    """Return what to repaint, at a size: 255 is, 0 isn't."""
    image = PIL.Image.fromarray(np.ascontiguousarray(job.images["mask_image"].pixels[:, :, 0]), "L")
    return _resized(image, size, PIL.Image.Resampling.NEAREST)


def _resized(image: PIL.Image.Image, size: Size, how: PIL.Image.Resampling) -> PIL.Image.Image:
    wanted = (size.width_px, size.height_px)
    return image if image.size == wanted else image.resize(wanted, how)


def _together(values: Sequence[float]) -> float | PerPicture:
    """Return one number for a batch if it is the same for all."""
    return values[0] if len(set(values)) == 1 else PerPicture(values)


def _above_one(value: object) -> bool:
    return isinstance(value, int | float) and value > 1


def _config(pipe: Any, name: str = "") -> Any:
    """Return the configuration of a pipeline, or of one of its parts; empty where it has none."""
    return getattr(getattr(pipe, name, None) if name else pipe, "config", None) or {}


def _original_steps(pipe: Any) -> int | None:
    """Return the number of steps of which a consistency model takes a few; None: it is none."""
    if not type(pipe).__name__.startswith("LatentConsistency"):
        return None
    return int(_config(pipe, "scheduler").get("original_inference_steps", 50))


def _native_px(pipe: Any) -> int:
    """Return the side of the pictures that a network was trained on."""
    sample = (_config(pipe, "unet") or _config(pipe, "transformer")).get("sample_size")
    side = max(sample) if isinstance(sample, list | tuple) else sample
    return int(side or 128) * _latent_px(pipe)


def _latent_px(pipe: Any) -> int:
    """Return how many pixels of the input, per side, are one value for the network."""
    if type(pipe).__name__ in PIXELWISE:
        return 1
    return int(getattr(pipe, "vae_scale_factor", 8))


def _multiple_px(pipe: Any) -> int:
    """Return what both sides must be multiples of, so that no layer has to round."""
    if (fixed := MULTIPLES.get(type(pipe).__name__)) is not None:
        return fixed
    if blocks := _config(pipe, "unet").get("down_block_types"):
        return int(_latent_px(pipe) * 2 ** (len(blocks) - 1))
    factor = _config(pipe, "image_processor").get("vae_scale_factor", 8)
    return int(max(factor, 2 * _latent_px(pipe)))


def _longest_px(pipe: Any) -> float:
    """Return the longest side for which a network knows places; infinity where it has no table."""
    config = _config(pipe, "transformer")
    places = config.get("pos_embed_max_size")
    return float(places * config["patch_size"] * _latent_px(pipe)) if places else math.inf
