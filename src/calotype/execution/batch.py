"""A batch that a worker process works on, as the server sees it."""

import asyncio
import logging
import time
from collections.abc import Sequence

from calotype.domain.request import Job
from calotype.execution.channel import Message
from calotype.execution.segment import Segment
from calotype.execution.worker import Answer

logger = logging.getLogger(__name__)


class RunningBatch:
    """Jobs that run together, and the answers that are waited for.

    Args:
        jobs: the batch.
        segment: where the process reads it, and each job's byte of cancellation.
    """

    def __init__(self, jobs: Sequence[Job], segment: Segment) -> None:
        self.jobs, self._segment = jobs, segment
        self.reply: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.kill: asyncio.TimerHandle | None = None
        """Ends the process unless it stops."""
        self._stepped_s = time.monotonic()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for any of the jobs any more."""
        return all(job.hooks.cancelled for job in self.jobs)

    def cancel(self, index: int) -> None:
        """Tell the process that nobody waits for a job any more."""
        self._segment.map[index] = 1

    def stepped(self) -> float:
        """Note that a step has ended; return how many seconds it took."""
        before_s, self._stepped_s = self._stepped_s, time.monotonic()
        return self._stepped_s - before_s

    def found(self, message: Message) -> None:
        """Take what a job's answer is to say."""
        hooks = self.jobs[message["job"]].hooks
        if message["is"] == "note":
            hooks.note(str(message["text"]))
        else:
            name, value = message["fact"]
            hooks.tell(str(name), str(value))

    def report(self, index: int, done: int, total: int) -> None:
        """Tell of a job's progress; whoever listens can't stop it by failing."""
        try:
            self.jobs[index].hooks.report(done, total)
        except Exception:
            logger.exception("progress could not be told")
