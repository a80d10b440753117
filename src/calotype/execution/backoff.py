"""Models that failed rest before they are tried again: 10 s, doubling to 5 minutes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from calotype.domain.model import ModelSpec
from calotype.errors import ConfigError, ModelCrashedError

FIRST_S = 10.0
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """Why a model rests, and how long."""

    error: Exception
    delay_s: float
    until_s: float


class BackOff:
    """Remembers failures by model.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests: dict[str, _Rest] = {}

    def failed(self, model: ModelSpec, error: Exception) -> float:
        """Note a failure; return how many seconds the model rests."""
        before = self._rests.get(model.id)
        delay_s = min(2 * before.delay_s, LONGEST_S) if before else FIRST_S
        self._rests[model.id] = _Rest(error, delay_s, self._clock() + delay_s)
        return delay_s

    def succeeded(self, model: ModelSpec) -> None:
        """Forget the model's failures."""
        self._rests.pop(model.id, None)

    def check(self, model: ModelSpec) -> None:
        """Refuse a model that rests.

        Raises:
            ConfigError: what it failed with, and when it is tried again.
            ModelCrashedError: the same.
        """
        left_s = self.left_s(model)
        if left_s is None or left_s <= 0:
            return
        error = self._rests[model.id].error
        cls = type(error) if isinstance(error, ConfigError) else ModelCrashedError
        text = f"{error}; it is tried again in {left_s:.0f} s"
        raise cls(text, retry_after_s=left_s) from error

    def left_s(self, model: ModelSpec) -> float | None:
        """Return how long a model rests on; None if its last try did not fail."""
        rest = self._rests.get(model.id)
        return max(0.0, rest.until_s - self._clock()) if rest else None

    def reason(self, model: ModelSpec) -> str:
        """Return what the model failed with; empty if it did not."""
        rest = self._rests.get(model.id)
        return str(rest.error) if rest else ""
