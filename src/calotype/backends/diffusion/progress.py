"""Progress and cancellation at every denoising step."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

from calotype.domain.request import Job, step_together


class Steps:
    """Stands in for the progress bar that every pipeline advances once a step.

    Args:
        jobs: which run together.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._done = self._total = 0

    def __call__(self, iterable: Any = None, total: int | None = None) -> Self:
        """Begin: with something to go through, or with a number of steps."""
        self._iterable = iterable
        self._done, self._total = 0, len(iterable) if iterable is not None else int(total or 0)
        step_together(self._jobs, 0, self._total)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def update(self, n: int = 1) -> None:
        """Report a step, and stop here if nobody waits any more."""
        self._done = min(self._done + n, self._total)
        step_together(self._jobs, self._done, self._total)

    def set_postfix(self, *_: object, **__: object) -> None:
        """Show nothing more."""
