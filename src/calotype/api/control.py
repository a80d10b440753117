"""The port through which operators steer what runs: ``execution.pool`` fills it."""

from typing import Protocol

from calotype.domain.model import ModelSpec
from calotype.errors import ShuttingDownError

BACK_AFTER_S = 5.0
"""After which a server that ends may be back."""


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

    @property
    def draining(self) -> bool:
        """Whether no more work is taken, because the end is near."""
        ...


def shutting_down() -> ShuttingDownError:
    """Return what is told to a client whose work the end of the server stops."""
    return ShuttingDownError("the server is shutting down", retry_after_s=BACK_AFTER_S)


def refuse_draining(control: Control) -> None:
    """Refuse work that would not be taken any more.

    Raises:
        ShuttingDownError: the server drains.
    """
    if control.draining:
        raise shutting_down()
