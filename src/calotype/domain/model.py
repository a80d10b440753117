"""What the catalog knows about a model before its weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal[
    "super-resolution",
    "style-transfer",
    "colorization",
    "inpainting",
    "restoration",
    "image-to-image",
]
Device = Literal["cpu", "gpu"]
AUTO = -1
"""In the place of a size in pixels: the backend chooses it by the network."""
ParamType = Literal["string", "number", "integer", "boolean", "image", "blend", "size", "loras"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamSpec:
    """One parameter that a model takes."""

    name: str
    type: ParamType
    help: str
    default: str | int | float | bool | None = None
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    """Allowed values; for a blend, the names of the choices, in the order of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of a model's weights."""

    role: str
    """What the backend calls it. E.g. ``param``, ``bin``, ``transform``."""
    package: str
    """Import name of the pip package that carries it; empty for a file of the user's own."""
    path: str
    """Path inside the package, or absolute."""
    sha256: str
    """Digest in hex; empty when the user gave none."""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One servable model."""

    id: str
    """Hub-style name, as it appears in the URL. E.g. ``xinntao/realesrgan-x4plus``."""
    backend: str
    """Key in the backend registry. E.g. ``openvino``."""
    revision: str
    """Digest of the weights and of what the catalog says of them; part of every cache key."""
    alias: str = ""
    task: Task = "image-to-image"
    description: str = ""
    files: tuple[WeightFile, ...] = ()
    scale: int | None = None
    """Output size / input size, per side; None: measured when the model loads."""
    tile: int = 256
    """Rows and columns of the one compiled shape; this and the next two may be ``AUTO``."""
    overlap: int = 32
    """Pixels that neighbouring tiles share."""
    blend: int = 16
    """Pixels in the middle of the overlap over which one tile fades into the next."""
    align: int = 1
    """Both sides of what the network sees are multiples of this."""
    params: tuple[ParamSpec, ...] = ()
    licence: str = "unknown"
    source: str = ""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What only this model's backend understands."""
    cluster: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Where it runs on a cluster, and how often: what ``domain.placement`` reads."""

    @property
    def name(self) -> str:
        """What people call it: the alias, or the id where there is none."""
        return self.alias or self.id

    @property
    def size_bytes(self) -> int:
        """All of its weight files together."""
        return sum(file.size_bytes for file in self.files)

    def param(self, name: str) -> ParamSpec | None:
        """Return the parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """What is known about a model at run time."""

    state: Literal["unloaded", "loading", "loaded", "failed", "too_large"]
    device: Device = "cpu"
    precision: str = ""
    """Precision the loaded model computes in, and why if it is a fallback."""
    estimated_load_s: float | None = None
    resident_bytes: int | None = None
    """Memory that the loaded model holds; None where it can't be told from the server's own."""
    reason: str = ""
    """Why the model failed, or is too large."""
    retry_after_s: float | None = None
    """When a failed model is tried again."""
