"""The contract every backend keeps (see tests/contract/)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from calotype.domain.image import Image
from calotype.domain.request import Job

Precision = Literal["auto", "bf16", "f32"]
ReadWeights = Callable[[str], bytes]
"""Role of a file -> its content, digest checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a backend may use of this machine."""

    cache_dir: Path | None = None
    """Where compiled networks are kept between starts; None: nowhere."""
    threads: int = 0
    """Processor threads; 0: all cores."""
    precision: Precision = "auto"
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
