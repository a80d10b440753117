"""Marks on disk while something runs that may take the process along."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

DEADLY_TRIES = 2
"""Tries that ended their process before nothing is tried any more."""


class Attempt:
    """One thing that is tried.

    Args:
        mark: file that is there while it runs; None: nowhere.
    """

    def __init__(self, mark: Path | None) -> None:
        self._mark = mark

    @property
    def is_deadly(self) -> bool:
        """Whether processes ended again and again while it ran.

        Once proves nothing: a server may be ended at any time, and so may its workers.
        """
        mark = self._mark
        return mark is not None and mark.exists() and mark.stat().st_size >= DEADLY_TRIES

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Leave the mark for a while."""
        if self._mark is None:
            yield
            return
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        with self._mark.open("a") as tries:
            tries.write(".")
        try:
            yield
        finally:
            self._mark.unlink(missing_ok=True)
