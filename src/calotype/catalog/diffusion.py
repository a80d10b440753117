"""A folder with a ``model_index.json``, as diffusers saves pipelines, as a model."""

import json
from collections.abc import Mapping
from pathlib import Path

from calotype.catalog import signature
from calotype.catalog.schema import build_model, user_file
from calotype.catalog.signature import Signature
from calotype.catalog.table import Table
from calotype.domain.diffusion import (
    GIVEN,
    INDEX,
    PARAMETERS,
    REQUIRED,
    components,
    mapping,
)
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError

IMAGE_CLASSES: Mapping[str, str] = {
    "FluxPipeline": "FluxImg2ImgPipeline",
    "LatentConsistencyModelPipeline": "LatentConsistencyModelImg2ImgPipeline",
    "QwenImagePipeline": "QwenImageImg2ImgPipeline",
    "StableDiffusion3Pipeline": "StableDiffusion3Img2ImgPipeline",
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    "ZImagePipeline": "ZImageImg2ImgPipeline",
}
"""What checkpoints are saved as -> the pipeline over the same weights that takes a picture."""

SCALES: Mapping[str, int] = {
    "LDMSuperResolutionPipeline": 4,
    "StableDiffusionLatentUpscalePipeline": 2,
    "StableDiffusionUpscalePipeline": 4,
}
EDITORS = ("Edit", "Kontext", "Pix2Pix")
"""In the name of a class whose prompt says what to do: without one there is nothing to do."""
FEW_STEPS = ("turbo", "lightning", "hyper")
"""In the name of a checkpoint that was distilled to a few steps without guidance."""
FEW = {"num_inference_steps": 4, "guidance_scale": 0.0, "strength": 0.5}

NO_PICTURES = (
    "Video", "Marigold", "Prior", "Redux", "ShapE", "Onnx", "Audio", "ImageToImageVideo", "I2V",
    "Animate", "Cosmos", "Wan", "LTX", "Kandinsky5", "LEdits",
)  # fmt: skip
"""In the name of a class that answers with a film, a map or an embedding, or has other engines."""
FURTHER = frozenset(
    {"control_image", "control_video", "conditioning_image", "adapter_conditioning"}
)
"""Arguments without which their classes fail, though they have a default."""

MASK_BLUR: Mapping[str, object] = {"type": "integer", "minimum": 0, "maximum": 255, "default": 8}
"""What goes with every ``mask_image``."""
LIBRARIES = frozenset({"diffusers", "transformers"})
WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
READ = frozenset({".json", ".txt", ".model", ".jinja", WEIGHTS})
"""Suffixes of what a pipeline is read from."""


def describe_pipeline(folder: Path, id: str, said: Mapping[str, object], where: str) -> ModelSpec:
    """Make a spec of a pipeline's folder.

    Args:
        folder: it has a ``model_index.json``.
        id: the model's.
        said: what the TOML file beside the folder says; it beats what is found.
        where: that file, for errors.

    Raises:
        InvalidCatalogError: it is no pipeline that takes a picture, needs code of its own, or has
            weights that only a pickle could load; or the TOML file is wrong.
    """
    index = read_index((folder / INDEX).read_bytes())
    options = said.get("options")
    wanted = options.get("class") if isinstance(options, Mapping) else None
    name = str(wanted or image_class(index))
    check_components(index)
    _check_weights(folder, index)
    found: dict[str, object] = {"backend": "diffusers", "scale": SCALES.get(name, 1)}
    if signature.installed():  # without it, loading the model says what to install
        found["parameters"] = _parameters(_signature(name), f"{id} {index.get('_name_or_path')}")
    found["task"] = "super-resolution" if name in SCALES else _task(found)
    found["options"] = {"class": name}
    files = tuple(
        user_file(path.relative_to(folder).as_posix(), path) for path in pipeline_files(folder)
    )
    return build_model(Table(merged(found, said), where), id, files)


def read_index(content: bytes) -> dict[str, object]:
    """Read a ``model_index.json``.

    Raises:
        InvalidCatalogError: it is none.
    """
    try:
        index = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidCatalogError(f"its {INDEX} can't be read: {error}") from error
    if not isinstance(index, dict) or "_class_name" not in index:
        raise InvalidCatalogError(f"its {INDEX} names no pipeline class")
    if not isinstance(index["_class_name"], str):
        raise InvalidCatalogError("it needs code from its own repository, which is never run")
    return index


def image_class(index: Mapping[str, object]) -> str:
    """Return the pipeline class that takes a picture, for the weights that an index names."""
    name = str(index["_class_name"])
    return IMAGE_CLASSES.get(name, name)


def check_components(index: Mapping[str, object]) -> None:
    """Refuse a pipeline whose parts need code that doesn't come with the libraries.

    Raises:
        InvalidCatalogError: one does.
    """
    for name, library, _ in components(index):
        known = library in LIBRARIES or not signature.installed()
        if not known and not signature.is_part_of_diffusers(library):
            raise InvalidCatalogError(
                f"its {name} needs code from its own repository, which is never run"
            )


def check_call(name: str) -> None:
    """Refuse a pipeline class that can't be called with a picture and our parameters.

    Raises:
        InvalidCatalogError: it is such a class, or the installed diffusers has none of that name.
    """
    _signature(name)


def _signature(name: str) -> Signature:
    found = signature.read_signature(name)
    if found is None:
        raise InvalidCatalogError(
            f"the installed diffusers has no pipeline {name}; a newer one may"
        )
    if "image" not in found.defaults:
        raise InvalidCatalogError(f"{name} takes no picture, so it is no image-to-image model")
    if word := next((word for word in NO_PICTURES if word in name), None):
        raise InvalidCatalogError(f"{name} gives no picture that it could answer with ({word})")
    if further := sorted(FURTHER & set(found.defaults)):
        raise InvalidCatalogError(f"{name} needs {further[0]}, which no request carries")
    known = GIVEN | set(mapping(found.defaults).values())
    missing = [n for n, v in found.defaults.items() if v is REQUIRED and n not in known]
    if missing:
        raise InvalidCatalogError(f"{name} needs {' and '.join(missing)}, which no request carries")
    return found


def _parameters(found: Signature, names: str) -> dict[str, dict[str, object]]:
    """Describe the parameters of a pipeline class as a TOML file would."""
    few = FEW if any(word in names.lower() for word in FEW_STEPS) else {}
    tables: dict[str, dict[str, object]] = {}
    for ours, theirs in mapping(found.defaults).items():
        known = PARAMETERS[ours]
        table: dict[str, object] = {"type": known.type}
        default = few.get(ours, found.defaults[theirs])
        if ours == "prompt":
            editor = any(word in found.name for word in EDITORS)
            table |= {"required": True} if editor else {"default": ""}
        elif known.type != "image" and default is not REQUIRED and default is not None:
            table["default"] = default
        limits = {"minimum": known.minimum, "maximum": known.maximum}
        tables[ours] = table | {key: value for key, value in limits.items() if value is not None}
    if "mask_image" in tables:
        tables["mask_blur"] = dict(MASK_BLUR)
    if "generator" in found.defaults:
        tables["seed"] = {"type": "integer"}
    if found.takes_loras:
        tables["loras"] = {"type": "loras"}
    return tables


def _task(found: Mapping[str, object]) -> str:
    parameters = found.get("parameters")
    masked = isinstance(parameters, Mapping) and "mask_image" in parameters
    return "inpainting" if masked else "image-to-image"


def merged(found: Mapping[str, object], said: Mapping[str, object]) -> dict[str, object]:
    """Lay what the user says over what was found, table by table."""
    joined = dict(found)
    for key, value in said.items():
        below = joined.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        joined[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return joined


def pipeline_files(folder: Path) -> list[Path]:
    """Return what a pipeline is read from, in a fixed order, hidden files left out."""
    found = (path for path in folder.rglob("*") if path.suffix in READ and path.is_file())
    hidden = (path for path in found if not _is_hidden(path.relative_to(folder)))
    return sorted(hidden)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_weights(folder: Path, index: Mapping[str, object]) -> None:
    """Refuse parts that have a pickle for weights and nothing else."""
    for name, _, _ in components(index):
        suffixes = {path.suffix for path in (folder / name).glob("*")}
        if WEIGHTS not in suffixes and suffixes & set(PICKLES):
            raise InvalidCatalogError(
                f"its {name} has pickled weights only, which can carry code; save it as safetensors"
            )
