"""The contract every backend keeps (see tests/contract/)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from calotype.domain.image import Image
from calotype.domain.model import Device
from calotype.domain.request import Job

Precision = Literal["auto", "bf16", "f32"]
Safety = Literal["black", "refuse", "ignore"]
ReadWeights = Callable[[str], bytes]
"""Role of a file -> its content, digest checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffusion:
    """How diffusers' pipelines are run."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a CUDA device if there is one."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """On the processor; auto is OpenVINO."""
    compile: bool = False
    """Compile the network's repeated blocks on CUDA."""
    offload: Literal["none", "model", "sequential"] = "none"
    """What lies in the computer's memory until the CUDA device needs it."""
    safety: Safety = "black"
    """What happens to a picture that the pipeline's own checker objects to."""
    stage_bytes: int = 256 * 1024 * 1024
    """Bound on what is kept of prompts and source pictures that were encoded."""
    loras_dir: Path | None = None
    """Where adapters are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a backend may use of this machine."""

    cache_dir: Path | None = None
    """Where compiled networks are kept between starts; None: nowhere."""
    threads: int = 0
    """Processor threads; 0: all cores."""
    precision: Precision = "auto"
    diffusion: Diffusion = Diffusion()
    max_output_pixels: int | None = None
    """Largest result, for networks whose scale is known only once they are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Which jobs may share a batch: what the backend says of them, without being asked again."""

    params: tuple[str, ...] = ()
    """Parameters that must be equal. E.g. ``num_inference_steps``."""
    multiple_px: int = 1
    """Sides must be equal once they are rounded up to a multiple of this."""

    def key(self, job: Job) -> Hashable:
        """Return what is equal for jobs that may share a batch."""
        h, w, _ = job.image.pixels.shape
        sides = (-(-h // self.multiple_px), -(-w // self.multiple_px))
        return sides, tuple(job.params.get(name) for name in self.params)


class Backend(Protocol):
    """One loaded model. Called from one thread at a time."""

    @property
    def precision(self) -> str:
        """What it computes in, and why, e.g. ``f32 (bf16 measured slower on this processor)``."""
        ...

    @property
    def device(self) -> Device:
        """What it computes on."""
        ...

    @property
    def batching(self) -> Batching | None:
        """Which jobs may share a batch; None: each runs alone."""
        ...

    @property
    def shrinks(self) -> int:
        """How often the tile can be halved when memory is short; ``Job.shrink`` asks for it."""
        ...

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run jobs that may share a batch, telling each job's hooks of progress.

        Returns:
            One image per job, in order, of the network's own output size.

        Raises:
            JobCancelledError: the hooks of all jobs were told to stop; of a batch, see
                ``step_together``.
            BackendError: the network failed.
        """
        ...
