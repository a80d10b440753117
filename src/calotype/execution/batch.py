"""A batch that a worker process works on, as the server sees it."""

import asyncio
import base64
import logging
import time
from collections.abc import Sequence

from calotype.domain.event import Event, Preview, Progress
from calotype.domain.request import Job
from calotype.execution.channel import Message
from calotype.execution.segment import Segment
from calotype.execution.worker import Answer

logger = logging.getLogger(__name__)

PNG = b"\x89PNG\r\n\x1a\n"
"""How such files begin."""
MAX_PREVIEW_BYTES = 1 << 17
"""Twice what 128 x 128 pixels of noise take."""


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
        """Take what a job's answer is to say, or what its picture looks like so far.

        Raises:
            ValueError: it is not what ``child`` sends.
            TypeError: the same.
            LookupError: the same.
        """
        hooks = self.jobs[message["job"]].hooks
        match message["is"]:
            case "preview":
                self._tell(message["job"], _preview(message["png"]))
            case "note":
                hooks.note(str(message["text"]))
            case _:
                name, value = message["fact"]
                hooks.tell(str(name), str(value))

    def report(self, index: int, done: int, total: int) -> None:
        """Tell of a job's progress."""
        self._tell(index, Progress(done, total))

    def _tell(self, index: int, event: Event) -> None:
        """Tell of an event; whoever listens can't stop the job by failing."""
        hooks = self.jobs[index].hooks
        try:
            hooks.happened(event)
        except Exception:
            logger.exception("an event could not be told")


def _preview(text: str) -> Preview:
    """Read a small PNG file."""
    body = base64.b64decode(text, validate=True)
    if not body.startswith(PNG) or len(body) > MAX_PREVIEW_BYTES:
        raise ValueError(f"{len(body)} bytes that are no preview")
    return Preview(body)
