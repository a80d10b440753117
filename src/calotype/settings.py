"""Every knob once: name, unit, default, range, help. TOML < environment < command line.

Beside ``environment``, nothing else in the package reads ``os.environ``.
"""

import dataclasses
import logging
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype.errors import InvalidSettingError

MIB = 1024 * 1024
logger = logging.getLogger(__name__)
ENV_PREFIX = "CALOTYPE_"


def _knob(
    default: Any,  # noqa: ANN401  the field's annotation is the type
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401
    """Declare one setting."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator decides; read once, by the command line."""

    host: str = _knob("127.0.0.1", "address to listen on; another than loopback needs a token")
    port: int = _knob(8000, "port to listen on; 0 takes a free one", minimum=0, maximum=65535)
    insecure: bool = _knob(False, "listen beyond loopback without any token")
    default_model: str = _knob("upscale", "model that answers POST /")
    models_dir: str = _knob("", "folder of the user's own models; empty: DATA/models")
    loras_dir: str = _knob("", "folder of adapters for diffusion; empty: MODELS/loras")
    allow_pull: bool = _knob(
        False, "fetch a model of the Hub that a request names; whoever may send one fills the disk"
    )
    catalog_file: str = _knob("", "TOML file with further models; empty: none")
    data_dir: str = _knob(
        "", "where tokens and pulled models are kept; empty: the user's data folder"
    )
    cache_dir: str = _knob("", "compiled models and cached answers; empty: the user's cache folder")
    max_upload_bytes: int = _knob(32 * MIB, "largest request body, bytes", minimum=1024)
    max_pixels: int = _knob(50_000_000, "largest input picture, pixels", minimum=1)
    max_output_pixels: int = _knob(250_000_000, "largest output picture, pixels", minimum=1)
    queue_size: int = _knob(
        64, "jobs that may wait, all models together", minimum=1, maximum=100_000
    )
    queue_bytes: int = _knob(
        1024 * MIB, "decoded pictures that may wait, bytes; one always may", minimum=0
    )
    priorities: str = _knob(
        "", "tokens that go first or last: NAME=NUMBER, separated by commas; others have 0"
    )
    deadline_s: float = _knob(
        120.0, "seconds a request may take unless it says otherwise", minimum=0.001
    )
    max_deadline_s: float = _knob(3600.0, "largest x-deadline-ms accepted, seconds", minimum=0.001)
    hold_s: float = _knob(15.0, "seconds a request waits for a loading model before 503", minimum=0)
    drain_s: float = _knob(30.0, "seconds that running requests get at shutdown", minimum=0)
    result_s: float = _knob(
        3600.0, "seconds that a job's picture and the end of a request are kept", minimum=1
    )
    result_bytes: int = _knob(
        256 * MIB, "pictures of jobs kept until they are fetched, bytes", minimum=0
    )
    cache_memory_bytes: int = _knob(128 * MIB, "answers kept in memory, bytes; 0: none", minimum=0)
    cache_disk_bytes: int = _knob(1024 * MIB, "answers kept on disk, bytes; 0: none", minimum=0)
    store_url: str = _knob(
        "", "Redis or Valkey that several servers share, redis://HOST:PORT/0; empty: none"
    )
    store_timeout_s: float = _knob(
        1.0, "seconds that the store gets to answer", minimum=0.01, maximum=60
    )
    store_answer_s: float = _knob(
        86_400.0, "seconds that an answer is kept in the store", minimum=1
    )
    store_entry_bytes: int = _knob(
        16 * MIB, "largest answer kept in the store, bytes; 0: none", minimum=0
    )
    jpeg_quality: int = _knob(90, "quality of JPEG answers", minimum=1, maximum=100)
    webp_quality: int = _knob(
        90, "quality of WebP answers; 100 is lossless", minimum=1, maximum=100
    )
    png_effort: int = _knob(4, "zlib level of PNG answers, 0 fast .. 9 small", minimum=0, maximum=9)
    keep_metadata: bool = _knob(False, "copy EXIF, XMP and IPTC of the input to the answer")
    isolation: str = _knob(
        "process",
        "process: each model in a process of its own; thread: all in the server's",
        choices=("process", "thread"),
    )
    memory_bytes: int = _knob(
        0, "memory of all loaded models, bytes; 0: three quarters of the machine's", minimum=0
    )
    idle_s: float = _knob(
        900.0, "seconds after which a model that nobody uses is unloaded; 0: never", minimum=0
    )
    pin: str = _knob("", "models that are never unloaded by themselves, separated by commas")
    slots: int = _knob(
        1, "batches that run at the same time, sharing the threads", minimum=1, maximum=64
    )
    replicas: int = _knob(1, "processes of one model at most", minimum=1, maximum=64)
    stop_s: float = _knob(
        5.0, "seconds that a cancelled run gets to stop before its process is killed", minimum=0
    )
    load_limit_s: float = _knob(600.0, "longest time that a model may load, seconds", minimum=1)
    threads: int = _knob(
        0, "processor threads for inference; 0: all cores", minimum=0, maximum=1024
    )
    precision: str = _knob(
        "auto",
        "auto: bf16 where it is measured faster here",
        choices=("auto", "bf16", "f32"),
    )
    diffusion_engine: str = _knob(
        "auto",
        "what runs diffusion on the processor; auto: OpenVINO, PyTorch where it can't",
        choices=("auto", "openvino", "torch"),
    )
    diffusion_device: str = _knob(
        "auto", "auto: a CUDA device if PyTorch finds one", choices=("auto", "cpu", "cuda")
    )
    diffusion_compile: bool = _knob(
        False, "compile diffusion networks on a CUDA device: faster, minutes at the first load"
    )
    diffusion_offload: str = _knob(
        "none",
        "what waits in main memory until a CUDA device needs it: whole networks, or layers",
        choices=("none", "model", "sequential"),
    )
    safety: str = _knob(
        "black",
        "pictures that a pipeline's own safety checker objects to are made black, refused or shown",
        choices=("black", "refuse", "ignore"),
    )
    stage_cache_bytes: int = _knob(
        256 * MIB, "encoded prompts and source pictures kept per model, bytes; 0: none", minimum=0
    )
    preload: str = _knob("", "models to load at start, separated by commas")
    cluster_ingresses: str = _knob(
        "1", "servers in front of a cluster's models: a number, or MIN-MAX"
    )
    cluster_models: str = _knob(
        "*: replicas=1",
        "where models run on a cluster: NAME, NAME: replicas=1-4 cpus=2 gpus=0 ongoing=8; ...;"
        " those of one entry share its replicas, * is every other model",
    )
    trace_url: str = _knob(
        "", "collector of OpenTelemetry that is sent traces, http://HOST:4318; empty: none"
    )
    trace_share: float = _knob(
        1.0,
        "share of requests that are traced, where their sender doesn't say",
        minimum=0,
        maximum=1,
    )
    log_level: str = _knob("info", "what to log", choices=("debug", "info", "warning", "error"))
    log_format: str = _knob(
        "auto", "auto: text on a terminal, else json", choices=("auto", "text", "json")
    )

    def __post_init__(self) -> None:
        for knob in dataclasses.fields(self):
            _check(knob.name, getattr(self, knob.name), knob.metadata)

    @property
    def data_path(self) -> Path:
        """Folder for tokens and pulled models."""
        return (
            Path(self.data_dir) if self.data_dir else _user_folder("XDG_DATA_HOME", ".local/share")
        )

    @property
    def cache_path(self) -> Path:
        """Folder for what can be made again."""
        return Path(self.cache_dir) if self.cache_dir else _user_folder("XDG_CACHE_HOME", ".cache")

    @property
    def models_path(self) -> Path:
        """Folder of the user's own models."""
        return Path(self.models_dir) if self.models_dir else self.data_path / "models"

    @property
    def loras_path(self) -> Path:
        """Folder of adapters."""
        return Path(self.loras_dir) if self.loras_dir else self.models_path / "loras"


def load_settings(
    overrides: Mapping[str, object],
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Join a TOML file, the environment and the command line, the later beating the earlier.

    Args:
        overrides: values from the command line; None means not given.
        file: TOML file with settings at top level.
        environ: the environment; default the process's own.

    Raises:
        InvalidSettingError: an unknown name, a wrong type, or a value out of range.
    """
    known = {knob.name: knob for knob in dataclasses.fields(Settings)}
    values: dict[str, object] = _read_toml(file) if file else {}
    for name, text in (os.environ if environ is None else environ).items():
        key = name.removeprefix(ENV_PREFIX).lower()
        if name.startswith(ENV_PREFIX) and key in known:
            values[key] = text
        elif name.startswith(ENV_PREFIX):
            # Another program may own it, so it is no error as it would be in a file.
            logger.warning("%s is in the environment and is no setting of Calotype", name)
    values |= {name: value for name, value in overrides.items() if value is not None}
    for name in values:
        if name not in known:
            raise InvalidSettingError(
                f"unknown setting {name!r}; `calotype serve --help` lists them"
            )
    return Settings(**{n: _convert(n, v, known[n].type) for n, v in values.items()})  # type: ignore[arg-type]


def _read_toml(file: Path) -> dict[str, object]:
    """Read settings from a file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSettingError(f"cannot read settings from {file}: {error}") from error


def _convert(name: str, value: object, kind: object) -> object:
    """Turn text from the environment into the setting's type."""
    if not isinstance(value, str) or kind is str:
        return value
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                value.lower()
            ]
        return int(value) if kind is int else float(value)
    except (KeyError, ValueError):
        word = {bool: "true or false", int: "an integer", float: "a number"}[kind]  # type: ignore[index]
        raise InvalidSettingError(f"{name} must be {word}, got {value!r}") from None


def _check(name: str, value: object, metadata: Mapping[str, Any]) -> None:
    """Refuse a value outside its documented range, or of another type."""
    default = next(k.default for k in dataclasses.fields(Settings) if k.name == name)
    wanted = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise InvalidSettingError(f"{name} must be of type {type(default).__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidSettingError(f"{name} must be finite, got {value!r}")
    if (choices := metadata["choices"]) and value not in choices:
        raise InvalidSettingError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    low, high = metadata["minimum"], metadata["maximum"]
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise InvalidSettingError(f"{name} must be {limits}, got {value!r}")


def _user_folder(variable: str, fallback: str) -> Path:
    """Return Calotype's folder under an XDG base directory.

    Source: XDG Base Directory Specification.
    """
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / fallback) / "calotype"
