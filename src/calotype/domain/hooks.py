"""The two wires between a running job and whoever waits for it."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from calotype.domain.event import Event, Progress
from calotype.errors import DeadlineExceededError

logger = logging.getLogger(__name__)

PACE_KNOWN_S = 1.0
"""After this, the time that a job takes can be told from its first steps."""

HOPELESS = 2.0
"""A forecast over this multiple of the time allowed ends a job."""


class Hooks:
    """The two wires between a running job and whoever waits for it; thread-safe.

    Args:
        on_progress: called with (steps done, steps in all) from the worker's thread.
        on_event: called with whatever happens to the job, progress included, from any thread.
    """

    def __init__(
        self,
        on_progress: Callable[[int, int], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._on_progress, self._on_event = on_progress, on_event
        self._on_cancel: list[Callable[[], None]] = []
        self._cancelled = False
        self._deadline_s = self._started_s = float("inf")
        self.progress = (0, 0)
        """Steps done, steps in all; (0, 0) before the first."""
        self.notes: tuple[str, ...] = ()
        """Warnings of the run, for the answer."""
        self.facts: Mapping[str, str] = {}
        """What else the answer says of the run, by name. E.g. ``safety``."""

    def start(self, deadline_s: float) -> None:
        """Begin to watch whether the job can be done in time.

        Args:
            deadline_s: monotonic clock, seconds.
        """
        self._deadline_s, self._started_s = deadline_s, time.monotonic()

    def cancel(self) -> None:
        """Ask the job to stop at its next tile or step."""
        self._cancelled = True
        for act in tuple(self._on_cancel):
            act()

    @contextlib.contextmanager
    def on_cancel(self, act: Callable[[], None]) -> Iterator[None]:
        """Call something once the job is asked to stop, from the thread that asks.

        Args:
            act: called at once if that was before; may be called more than once.
        """
        self._on_cancel.append(act)
        try:
            if self.cancelled:
                act()
            yield
        finally:
            self._on_cancel.remove(act)

    @contextlib.contextmanager
    def heard(self, listen: Callable[[Event], None]) -> Iterator[None]:
        """Tell somebody else, too, what happens to the job.

        Args:
            listen: called before whoever was told anyway.
        """
        before = self._on_event

        def both(event: Event) -> None:
            listen(event)
            if before is not None:
                before(event)

        self._on_event = both
        try:
            yield
        finally:
            self._on_event = before

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""
        return self._cancelled

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop here if asked to.

        Raises:
            JobCancelledError: somebody called ``cancel``.
            DeadlineExceededError: at this pace, the job would end long after its deadline.
        """
        if self.cancelled:
            raise JobCancelledError(f"cancelled after {done} of {total}")
        if not done:
            # What came before (compiling, the jobs that share the batch) says nothing of the pace.
            self._started_s = time.monotonic()
        self._check_pace(done, total)
        self.report(done, total)

    def report(self, done: int, total: int) -> None:
        """Tell of progress, and nothing else."""
        self.happened(Progress(done, total))

    def happened(self, event: Event) -> None:
        """Tell whoever waits what happened to the job."""
        if isinstance(event, Progress):
            self.progress = (event.done, event.total)
            if self._on_progress is not None:
                self._on_progress(event.done, event.total)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            # Whoever listens can't stop the job, or what runs it, by failing.
            logger.exception("an event could not be told")

    def note(self, text: str) -> None:
        """Add a warning to the answer, unless it has the same one already."""
        if text not in self.notes:
            self.notes = (*self.notes, text)

    def tell(self, name: str, value: str) -> None:
        """Add a fact to the answer, in place of any other of that name."""
        self.facts = {**self.facts, name: value}

    def _check_pace(self, done: int, total: int) -> None:
        """Stop what is hopeless now, rather than at the deadline."""
        if self._deadline_s == float("inf") or not 0 < done < total:
            return
        took_s = time.monotonic() - self._started_s
        needed_s, allowed_s = took_s / done * total, self._deadline_s - self._started_s
        if took_s > PACE_KNOWN_S and needed_s > HOPELESS * allowed_s:
            raise DeadlineExceededError(
                f"the picture is too large for its time: it would take about {needed_s:.0f} s here,"
                f" and {allowed_s:.0f} s were left; send a smaller one, take a faster model, or ask"
                " for a later deadline"
            )


class JobCancelledError(Exception):
    """Ends a running job from inside; never leaves ``execution``."""
