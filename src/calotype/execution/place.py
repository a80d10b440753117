"""A job's place in the queue, from its arrival to its answer."""

import asyncio
from dataclasses import dataclass

from calotype.domain.event import Queued, Started
from calotype.domain.hooks import JobCancelledError
from calotype.domain.image import Image
from calotype.domain.request import Job, Outcome
from calotype.errors import CalotypeError, ModelCrashedError
from calotype.execution.crew import Crew
from calotype.execution.policy import Waiting
from calotype.execution.worker import Answer, WorkerLostError


@dataclass(slots=True, eq=False)
class Place:
    """A job's place in the queue."""

    job: Job
    crew: Crew
    waiting: Waiting
    future: asyncio.Future[Outcome]
    attempts: int = 0
    started_s: float = 0.0
    """When it began to run; 0 while it waits."""
    number: int = 0
    """Where it stands in the queue, as was told last; 1 is the next to run."""

    def stands(self, number: int) -> None:
        """Note where it stands, and tell whoever waits if that is news."""
        if self.number != number:
            self.number = number
            self.job.hooks.happened(Queued(number))

    def start(self, now_s: float) -> None:
        """Note that it begins to run."""
        self.started_s, self.number = now_s, 0
        self.attempts += 1
        self.job.hooks.start(self.job.deadline_s)
        self.job.hooks.happened(Started())

    def settle(self, answer: Answer, took_s: float, batch_size: int) -> None:
        """Take the job's answer."""
        if self.future.done():
            return
        if isinstance(answer, Image):
            traits = self.crew.traits
            outcome = Outcome(
                image=answer,
                queue_s=self.started_s - self.waiting.arrived_s,
                inference_s=took_s,
                batch_size=batch_size,
                device=traits.device if traits else "cpu",
            )
            self.future.set_result(outcome)
        elif isinstance(answer, JobCancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(answer)

    def refuse(self, error: Exception) -> None:
        """Take an error in place of an answer."""
        if not self.future.done():
            self.future.set_exception(error)


def crash_of(error: Exception) -> CalotypeError:
    """Name what made a run end without answers."""
    crash = ModelCrashedError(repr(error) if not isinstance(error, WorkerLostError) else str(error))
    crash.__cause__ = error
    return crash
