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


class Backend(Protocol):
    """One loaded model. Called from one thread at a time."""

    @property
    def precision(self) -> str:
        """What it computes in, and why, e.g. ``f32 (bf16 measured slower on this processor)``."""
        ...

    def batch_key(self, job: Job) -> Hashable:
        """Jobs with equal keys may share a batch. E.g. (padded height, padded width, steps)."""
        ...

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run jobs that share a batch key, telling each job's hooks of progress.

        Returns:
            One image per job, in order, of the network's own output size.

        Raises:
            JobCancelledError: a job's hooks were told to stop.
            BackendError: the network failed.
        """
        ...
