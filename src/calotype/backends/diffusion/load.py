"""From a folder to a pipeline on its device."""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from calotype.backends.accelerator import use_cuda
from calotype.backends.base import Machine
from calotype.backends.diffusion.graph import Shelf
from calotype.backends.diffusion.seam import Seam, lay_channels_last, release
from calotype.backends.openvino import Engine
from calotype.domain.diffusion import INDEX, components
from calotype.domain.model import Device, ModelSpec
from calotype.errors import MissingExtraError, MissingWeightsError

logger = logging.getLogger(__name__)

DENOISERS = ("unet", "transformer")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
PICTURE_ENCODER = "vae.encoder"
CONVERTED = (*DENOISERS, *TEXT_ENCODERS, PICTURE_ENCODER, "vae.decoder")
"""Networks that run on OpenVINO."""
CONVERTED_VAES = ("AutoencoderKL", "AutoencoderTiny")
"""Others keep state between calls, or are made of calls that aren't their parts'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A pipeline, ready to be called."""

    pipe: Any
    device: Device
    precision: str
    """What it computes in, and why."""
    seams: tuple[Seam, ...] = ()
    """Its networks that run on OpenVINO."""


def load_pipeline(spec: ModelSpec, machine: Machine) -> Loaded:
    """Load a pipeline onto the device that the machine has.

    Raises:
        MissingWeightsError: a part is missing or can't be read.
        MissingExtraError: a part needs a package that isn't installed.
        InvalidSettingError: a device was asked for that isn't there.
    """
    _hush()
    options, folder = machine.diffusion, folder_of(spec)
    if use_cuda(machine):
        return _on_cuda(spec, folder, machine)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    engine = Engine(machine)
    if options.engine == "torch":
        return _on_torch(spec, folder, engine)
    return _on_openvino(spec, folder, machine, engine)


def folder_of(spec: ModelSpec) -> Path:
    """Return where a pipeline's files are."""
    index = next(file for file in spec.files if file.role == INDEX)
    return Path(index.path).parent


def part(pipe: Any, name: str) -> nn.Module | None:
    """Return a network of a pipeline by its path, or None."""
    found: Any = pipe
    for step in name.split("."):
        found = getattr(found, step, None)
    return found if isinstance(found, nn.Module) else None


def _on_torch(spec: ModelSpec, folder: Path, engine: Engine) -> Loaded:
    """Load for PyTorch on the processor."""
    half = engine.precision == "bf16"
    pipe = _read(spec, folder, torch.bfloat16 if half else torch.float32)
    if half:
        _channels_last(pipe)
    return Loaded(pipe=pipe, device="cpu", precision=f"{engine.precision} (PyTorch, as set)")


def _on_openvino(spec: ModelSpec, folder: Path, machine: Machine, engine: Engine) -> Loaded:
    """Load for OpenVINO; of networks that were converted before, no weights are read."""
    kept = machine.cache_dir / "converted" if machine.cache_dir else None
    shelf = Shelf(kept, spec.revision, half=engine.precision != "f32")
    hollow = {
        name: _hollow(folder, name, library, kind)
        for name, library, kind in _components(folder)
        if name in DENOISERS and shelf.find(name) is not None
    }
    pipe = _read(spec, folder, torch.float32, **hollow)
    seams = []
    for name in CONVERTED:
        module = part(pipe, name)
        if module is None or (name.startswith("vae.") and not _plain_vae(pipe)):
            continue
        seams.append(Seam(name, module, engine, shelf, _reloader(spec, folder, name)))
    return Loaded(
        pipe=pipe,
        device="cpu",
        precision=f"{engine.description} on OpenVINO",
        seams=tuple(seams),
    )


def _on_cuda(spec: ModelSpec, folder: Path, machine: Machine) -> Loaded:
    """Load for a CUDA device."""
    options = machine.diffusion
    full = machine.precision == "f32"
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    dtype = torch.float32 if full else half
    pipe = _read(spec, folder, dtype)
    _channels_last(pipe)
    match options.offload:
        case "model":
            pipe.enable_model_cpu_offload()
        case "sequential":
            pipe.enable_sequential_cpu_offload()
        case _:
            pipe.to("cuda")
    name = "f32" if full else str(half).removeprefix("torch.").replace("bfloat", "bf")
    reason = "as set" if full else torch.cuda.get_device_name()
    return Loaded(pipe=pipe, device="gpu", precision=f"{name} ({reason})")


def _read(spec: ModelSpec, folder: Path, dtype: torch.dtype, **parts: Any) -> Any:
    """Read a pipeline."""
    kind = getattr(diffusers, str(spec.options["class"]))
    # Of a checkpoint that has both, the smaller files are read.
    halves = any(".fp16." in file.role for file in spec.files)
    try:
        pipe = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            **({"variant": "fp16"} if halves else {}),
            **parts,
        )
    except ImportError as error:
        raise MissingExtraError(f"{spec.id} can't be loaded: {_first_line(error)}") from error
    except Exception as error:  # a damaged folder fails in as many ways as it has parts
        raise MissingWeightsError(f"{spec.id} can't be loaded: {_first_line(error)}") from error
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            _make_ready(module)
    return pipe


def _make_ready(module: nn.Module) -> None:
    """Prepare a network for calls that only ever compute its answer."""
    module.eval().requires_grad_(requires_grad=False)
    # A language model that encodes a prompt would keep what the next word needs, and none comes.
    find = getattr(getattr(module, "config", None), "get_text_config", None)
    if find is not None and hasattr(config := find(), "use_cache"):
        config.use_cache = False


def _components(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, library and class of a pipeline's parts."""
    return components(json.loads((folder / INDEX).read_bytes()))


def _class(library: str, kind: str) -> Any:
    return getattr(importlib.import_module(library), kind)


def _hollow(folder: Path, name: str, library: str, kind: str) -> nn.Module:
    """Make a network without its weights."""
    cls = _class(library, kind)
    with torch.device("meta"):
        module: nn.Module = cls.from_config(cls.load_config(folder / name))
    release(module)
    return module


def _reloader(spec: ModelSpec, folder: Path, name: str) -> Any:
    """Return what loads one network of a pipeline anew."""

    def reload() -> nn.Module:
        top, _, inner = name.partition(".")
        library, kind = next((lib, cls) for n, lib, cls in _components(folder) if n == top)
        halves = any(
            file.role.startswith(f"{top}/") and ".fp16." in file.role for file in spec.files
        )
        variant = {"variant": "fp16"} if halves else {}
        module = _class(library, kind).from_pretrained(
            folder / top, dtype=torch.float32, use_safetensors=True, **variant
        )
        _make_ready(module)
        found: nn.Module = getattr(module, inner) if inner else module
        return found

    return reload


def _plain_vae(pipe: Any) -> bool:
    return type(pipe.vae).__name__ in CONVERTED_VAES


def _channels_last(pipe: Any) -> None:
    """Lay pictures out as convolutions like them best."""
    for name in ("unet", "vae"):
        if (module := part(pipe, name)) is not None:
            lay_channels_last(module)


def _hush() -> None:
    """Keep the libraries' bars and notices for themselves."""
    warnings.filterwarnings("ignore", module="(diffusers|transformers|torch)")
    # It would ask on the terminal whether to run code of the folder: no, at once.
    dynamic: Any = importlib.import_module("transformers.dynamic_module_utils")
    dynamic.TIME_OUT_REMOTE_CODE = 0
    libraries: tuple[Any, ...] = (diffusers, transformers)
    for library in libraries:
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
