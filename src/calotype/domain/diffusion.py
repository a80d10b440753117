"""The one table between our parameters and those of diffusers' pipelines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from calotype.domain.model import ParamType

INDEX = "model_index.json"
"""What makes a folder a pipeline."""

Defaults = Mapping[str, object]
"""What a pipeline's call takes: name -> default; ``REQUIRED`` where there is none."""

REQUIRED = object()
"""In place of a default: the call has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One of our parameters, as a pipeline takes it."""

    type: ParamType
    minimum: float | None = None
    maximum: float | None = None


PARAMETERS: Mapping[str, Mapped] = {
    "prompt": Mapped(type="string"),
    "negative_prompt": Mapped(type="string"),
    "guidance_scale": Mapped(type="number", minimum=0, maximum=100),
    "true_cfg_scale": Mapped(type="number", minimum=0, maximum=100),
    "image_guidance_scale": Mapped(type="number", minimum=0, maximum=100),
    "num_inference_steps": Mapped(type="integer", minimum=1, maximum=500),
    "strength": Mapped(type="number", minimum=0, maximum=1),
    "noise_level": Mapped(type="integer", minimum=0, maximum=999),
    "mask_image": Mapped(type="image"),
}
"""Every parameter that is handed on; sizes, seeds and adapters are not handed on as they are."""

GIVEN = frozenset({"image", "mask_image", "height", "width", "generator", "output_type"})
"""What the backend fills in itself."""


def mapping(defaults: Defaults) -> dict[str, str]:
    """Name the pipeline's parameter for each of ours that it takes.

    Pipelines that were distilled with guidance built in have a ``guidance_scale`` that is not the
    usual one; where it is off by default, ``true_cfg_scale`` is what everybody else calls guidance.
    """
    found = {name: name for name in PARAMETERS if name in defaults}
    if "true_cfg_scale" in found and defaults.get("guidance_scale") is None:
        del found["true_cfg_scale"]
        found["guidance_scale"] = "true_cfg_scale"
    return found


def guidance_name(defaults: Defaults) -> str:
    """Name the parameter of ours that turns the negative prompt on; empty: there is none."""
    names = mapping(defaults)
    return next((name for name in ("true_cfg_scale", "guidance_scale") if name in names), "")


def components(index: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of a pipeline: folder, library, class."""
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004
            continue
        library, kind = value
        if isinstance(library, str) and isinstance(kind, str):
            yield name, library, kind
