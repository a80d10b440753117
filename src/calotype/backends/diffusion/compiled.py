"""``torch.compile`` for a pipeline's network, with what it made kept for the next start."""

import logging
from pathlib import Path
from typing import Any

import torch

from calotype.atomic import write_atomically

logger = logging.getLogger(__name__)


def compile_blocks(network: Any, backend: str = "inductor") -> bool:
    """Compile the blocks that a network repeats: seconds in place of minutes for all of it.

    Args:
        network: a model of diffusers; it compiles at its next call.
        backend: of ``torch.compile``.

    Returns:
        Whether it says which blocks these are; otherwise it stays as it is, which is logged.
    """
    try:
        network.compile_repeated_blocks(fullgraph=True, backend=backend)
    except ValueError as error:
        logger.warning("%s is not compiled: %s", type(network).__name__, error)
        return False
    return True


class KeptKernels:
    """Compiled kernels on disk.

    Args:
        folder: for those of all models; None: nowhere.
        name: of the model.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        words = f"{name}-{torch.__version__}-{device}"
        safe = "".join(c if c.isalnum() or c in ".-" else "-" for c in words)
        self._file = folder / f"{safe}.kernels" if folder else None

    def load(self) -> bool:
        """Take what an earlier start made; False if there is nothing."""
        if self._file is None or not self._file.is_file():
            return False
        try:
            found = torch.compiler.load_cache_artifacts(self._file.read_bytes())
        except Exception as error:  # anything wrong with torch's own format is as good as none
            logger.warning("compiled kernels are unusable, compiling anew: %r", error)
            return False
        return found is not None

    def save(self) -> None:
        """Keep what was made for the next start."""
        made = torch.compiler.save_cache_artifacts() if self._file is not None else None
        if made is None or self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, made[0])
        except OSError as error:
            logger.warning("compiled kernels were not kept for the next start: %s", error)
