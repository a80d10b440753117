"""The port through which operators steer what runs: ``execution.pool`` fills it."""

from typing import Protocol

from calotype.domain.model import ModelSpec
from calotype.errors import shutting_down


class Control(Protocol):
    """Loads and unloads models."""

    async def load(self, model: ModelSpec) -> None:
        """Load a model now, if it isn't.

        Raises:
            CalotypeError: it can't be loaded.
        """
        ...

    async def unload(self, model: ModelSpec) -> None:
        """Let a model's jobs finish, and give its memory back; nothing if it isn't loaded."""
        ...

    async def numbers(self) -> bytes:
        """Return the metrics, in the Prometheus text format."""
        ...

    @property
    def draining(self) -> bool:
        """Whether no more work is taken, because the end is near."""
        ...


class Supply(Protocol):
    """Gets models that the catalog hasn't."""

    async def pull(self, id: str, patience_s: float) -> ModelSpec:
        """Return a model, getting it first.

        Raises:
            UnknownModelError: nobody has it.
            ModelLoadingError: it is on its way, and the patience is over.
            CalotypeError: it can't be had.
        """
        ...


def refuse_draining(control: Control) -> None:
    """Refuse work that would not be taken any more.

    Raises:
        ShuttingDownError: the server drains.
    """
    if control.draining:
        raise shutting_down()
