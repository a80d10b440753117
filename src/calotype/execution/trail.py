"""The spans of a job: the wait for its model, the wait for its turn, its run, and each step."""

import threading
import time
from collections.abc import Awaitable, Callable

from calotype.domain.event import Entered, Event, Loading, Preview, Progress, Queued, Started
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job, Outcome
from calotype.observe.trace import Span, Tracer, Value

MAX_STEPS = 1000
"""Spans of steps below one run; later steps have none."""


async def followed(run: Callable[[Job], Awaitable[Outcome]], job: Job, tracer: Tracer) -> Outcome:
    """Run a job, and leave its spans in the trace that it is a part of.

    Args:
        run: runs it, and tells its hooks what happens to it.
        job: to be run.
        tracer: of this process.

    Raises:
        Exception: what the run raises.
    """
    with tracer.continued(job.trace) as above:
        if above is None or not above.is_sampled:
            return await run(job)
        trail = Trail(above, job.model)
        with job.hooks.heard(trail.hear):
            try:
                outcome = await run(job)
            except BaseException as error:
                trail.fail(error)
                raise
        trail.end(outcome)
        return outcome


class Trail:
    """The spans of one job, made of what its hooks are told, from whatever thread.

    Args:
        above: what they are below.
        model: of the job.
    """

    def __init__(self, above: Span, model: ModelSpec) -> None:
        self._above, self._model = above, model.id
        self._lock = threading.Lock()
        self._since_ns = time.time_ns()
        """When the span that is open began, or the step that is being made."""
        self._open: tuple[str, Span] | None = None
        self._runs = self._steps = self._done = 0

    def hear(self, event: Event) -> None:
        """Take what happened."""
        with self._lock:
            match event:
                case Loading():
                    self._enter("load")
                case Queued():
                    self._enter("queue")
                case Started():
                    self._enter("queue")
                    self._enter("run")
                case Progress():
                    self._step(event)
                case Preview() | Entered():
                    pass

    def end(self, outcome: Outcome) -> None:
        """Note how the job went."""
        told = {"calotype.batch_size": outcome.batch_size, "calotype.device": outcome.device}
        with self._lock:
            span = self._enter("run")
            span.tell(told)
            span.end()

    def fail(self, error: BaseException) -> None:
        """Note that the job has no result."""
        with self._lock:
            # Refused before anything happened, it would have waited.
            span = self._open[1] if self._open else self._enter("queue")
            span.end(error)

    def _enter(self, name: str) -> Span:
        """Begin a span at the end of the one before."""
        if self._open and self._open[0] == name:
            return self._open[1]
        now_ns = time.time_ns()
        if self._open:
            before, span = self._open
            if before == "run":
                span.fail("worker_lost", "the worker ended; the job runs once more")
            span.end(ended_ns=now_ns)
            self._since_ns = now_ns
        told: dict[str, Value] = {"calotype.model": self._model}
        if name == "run":
            self._runs, self._done = self._runs + 1, 0
            told["calotype.attempt"] = self._runs
        span = self._above.child(name, told, began_ns=self._since_ns)
        self._open = name, span
        return span

    def _step(self, event: Progress) -> None:
        """Note that a step, or several that came too fast to be told one by one, ended."""
        if not self._open or self._open[0] != "run" or event.total <= 1:
            return  # of a single step, the run says all
        now_ns, made = time.time_ns(), event.done - self._done
        # Before the first step networks are compiled; after a try without memory all begins anew.
        if made > 0 and self._steps < MAX_STEPS:
            told: dict[str, Value] = {
                "calotype.step": event.done,
                "calotype.steps": event.total,
                "calotype.steps_made": made,
            }
            step = self._open[1].child("step", told, began_ns=self._since_ns)
            step.end(ended_ns=now_ns)
            self._steps += 1
        self._since_ns, self._done = now_ns, event.done
