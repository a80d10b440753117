"""The checker that some pipelines have, and what happens to what it objects to."""

from collections.abc import Sequence
from typing import Any

from calotype.backends.base import Safety
from calotype.domain.request import Job
from calotype.errors import UnsafeResultError

FACT = "safety"
"""Name of the fact in the answer."""


class Checker:
    """Keeps the verdicts of a pipeline's own checker.

    Args:
        pipe: a pipeline, with a checker or without.
        mode: what happens to a picture that the checker objects to.
    """

    def __init__(self, pipe: Any, mode: Safety) -> None:
        self._mode: Safety = mode
        self._verdicts: list[bool] = []
        checker = getattr(pipe, "safety_checker", None)
        if checker is not None:
            self._original = checker.forward
            checker.forward = self._check

    def report(self, jobs: Sequence[Job]) -> None:
        """Tell each job its verdict.

        Raises:
            UnsafeResultError: the checker objects, and such pictures are refused.
        """
        verdicts, self._verdicts = self._verdicts, []
        for job, flagged in zip(jobs, verdicts, strict=False):
            job.hooks.tell(FACT, "flagged" if flagged else "passed")
            if not flagged:
                continue
            if self._mode == "refuse":
                raise UnsafeResultError(
                    "the model's safety checker objects to the result; another seed or prompt may"
                    " pass"
                )
            shown = "made black" if self._mode == "black" else "shown all the same"
            job.hooks.note(f"safety; the safety checker objects to this picture; it was {shown}")

    def forget(self) -> None:
        """Forget what an earlier run that failed has left."""
        self._verdicts = []

    def _check(self, *args: Any, **kwargs: Any) -> Any:
        """Run the checker, which blackens what it objects to."""
        images: Any = kwargs["images"] if "images" in kwargs else args[-1]
        kept = images.copy() if hasattr(images, "copy") else images.clone()
        checked, verdicts, *rest = self._original(*args, **kwargs)
        self._verdicts += [bool(verdict) for verdict in verdicts]
        if self._mode == "black":
            return (checked, verdicts, *rest)
        return (kept, [False for _ in verdicts], *rest)
