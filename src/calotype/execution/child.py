"""The worker process: loads one model, runs what the server sends, and ends with the server.

Started by ``execution.process`` as ``python -m calotype.execution.child DESCRIPTOR SERVER MODEL``;
the model is there for whoever looks at a list of processes.
"""

import base64
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from calotype.backends.base import Backend
from calotype.domain.event import Event, Preview
from calotype.domain.failure import describe
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec
from calotype.errors import CalotypeError, OutOfMemoryError
from calotype.execution.channel import Channel, Message
from calotype.execution.load import load_model
from calotype.execution.memory import peak_bytes, reset_peak
from calotype.execution.parcel import (
    describe_traits,
    open_jobs,
    open_object,
    pack_answers,
)
from calotype.execution.segment import Segment, Shelf
from calotype.execution.spawn import SIGNALS
from calotype.execution.worker import Answer, run_isolated

logger = logging.getLogger("calotype.execution.child")  # __name__ is __main__ here

NICENESS = 5
"""The server, which answers everybody, goes first when both want a processor."""
PROGRESS_EVERY_S = 0.05
_PR_SET_PDEATHSIG = 1
_TEXT_CHARS = 4000


class RemoteHooks(Hooks):
    """The worker's end of a job's wires: the way back is a byte that the server sets.

    Args:
        segment: of the batch.
        index: of the job in it, and of its byte.
        report: sends progress to the server.
        channel: for what else is to be said.
    """

    def __init__(
        self,
        segment: Segment,
        index: int,
        report: Callable[[int, int], None],
        channel: Channel,
    ) -> None:
        super().__init__(report)
        self._segment, self._index, self._channel = segment, index, channel

    @property
    def cancelled(self) -> bool:
        """Whether the server said that nobody waits any more."""
        return self._segment.map[self._index] != 0

    def happened(self, event: Event) -> None:
        """Send a preview, and progress as its reporter does."""
        if isinstance(event, Preview):
            text = base64.b64encode(event.body).decode()
            self._channel.send({"is": "preview", "job": self._index, "png": text})
        else:
            super().happened(event)

    def note(self, text: str) -> None:
        """Send a warning."""
        self._channel.send({"is": "note", "job": self._index, "text": text[:_TEXT_CHARS]})

    def tell(self, name: str, value: str) -> None:
        """Send a fact."""
        self._channel.send({"is": "fact", "job": self._index, "fact": [name, value]})


class Reporter:
    """Sends the progress of a job, but not more often than anybody could look."""

    def __init__(self, channel: Channel, index: int) -> None:
        self._channel, self._index = channel, index
        self._sent_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Tell the server; of a single step, its end says all."""
        if total == 1:
            return
        now_s = time.monotonic()
        if now_s - self._sent_s >= PROGRESS_EVERY_S or done in (0, total):
            self._sent_s = now_s
            self._channel.send({"is": "progress", "job": self._index, "step": [done, total]})


class Forwarder(logging.Handler):
    """Sends what is logged here to the log of the server."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        line = {"is": "log", "logger": record.name, "level": record.levelno}
        try:
            self._channel.send({**line, "text": self.format(record)[:_TEXT_CHARS]})
        except OSError:
            return  # the server is gone, and with it whoever could read the line


def main() -> None:
    """Serve one connection, then end without the long way out."""
    _follow_the_server()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    with contextlib.suppress(EOFError, OSError):  # the server closed its end, or is gone
        serve(channel)
    os._exit(0)


def serve(channel: Channel) -> None:
    """Load a model, then run batches until the server hangs up.

    Raises:
        EOFError: it did.
        OSError: it is gone.
    """
    ((message, fd),) = channel.receive()
    inbox, outbox = Shelf(), Shelf()
    spec, machine, level = open_object(message, inbox.open(fd, kept=False))
    root = logging.getLogger("calotype")
    root.addHandler(Forwarder(channel))
    root.setLevel(level)
    try:
        backend = load_model(spec, machine)
    except Exception as error:  # whatever it is, the server must know
        logger.exception("%s can't be loaded", spec.id)
        channel.send({"is": "failed", "error": describe(error)})
        return
    channel.send({"is": "loaded", **describe_traits(backend)})
    while True:
        for message, fd in channel.receive():
            # In one expression: between batches, nothing here may hold on to pictures.
            _answer(
                channel,
                spec,
                _run(channel, backend, spec, message, inbox.open(fd, kept=message["kept"])),
                outbox,
            )


def _run(
    channel: Channel, backend: Backend, spec: ModelSpec, message: Message, segment: Segment
) -> list[Answer]:
    """Run one batch."""
    reset_peak()

    def hooks(segment: Segment, index: int) -> Hooks:
        return RemoteHooks(segment, index, Reporter(channel, index), channel)

    return run_isolated(backend, open_jobs(message, segment, spec, hooks))


def _answer(channel: Channel, spec: ModelSpec, answers: list[Answer], shelf: Shelf) -> None:
    """Send the answers of a batch."""
    for answer in answers:
        if isinstance(answer, CalotypeError) and answer.__cause__ is not None:
            logger.error("%s failed", spec.id, exc_info=answer.__cause__)
    try:
        result, told = pack_answers(answers, shelf)
    except OSError as error:
        missing = OutOfMemoryError(f"no memory for the result: {error}")
        result, told = pack_answers([missing] * len(answers), shelf)
    done = {"is": "done", **told, "peak_bytes": peak_bytes()}
    channel.send(done, result.fd if result else None)
    if result:
        result.close()


def _follow_the_server() -> None:
    """End with the server, whatever ends it, and only with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        os._exit(0)  # the server was gone before that


if __name__ == "__main__":
    main()
