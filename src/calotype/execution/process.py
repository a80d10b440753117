"""A worker in a process of its own: what happens to it doesn't happen to the server.

Pixels cross in shared memory, messages over a pair of sockets; the other side is ``child``.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass

from calotype import errors
from calotype.backends.base import Machine
from calotype.domain.failure import error_of
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.execution.batch import RunningBatch
from calotype.execution.channel import Channel, Message
from calotype.execution.memory import resident_bytes
from calotype.execution.parcel import (
    open_answers,
    pack_jobs,
    pack_object,
    pictures,
    traits_of,
)
from calotype.execution.segment import SMALL_BYTES, Segment, Shelf
from calotype.execution.spawn import spawn
from calotype.execution.worker import Answer, Traits, Usage, WorkerLostError
from calotype.observe import metrics

logger = logging.getLogger(__name__)

SLOWEST_STEPS = 2.0
"""A run that was told to stop gets this many of its longest steps before its process is killed."""
CLOSED, KILLED = "closed", "killed"
"""Ends of a process that are no news."""
END_S = 2.0
"""Time that an idle process gets to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker is waited for."""

    stop_s: float
    """Least time that a cancelled run gets to stop."""
    load_s: float
    """Longest time that a load may take."""


class ProcessWorker:
    """Loads and runs one model in a process of its own; belongs to one event loop.

    Args:
        spec: the model.
        machine: what its backend may use.
        patience: how long it is waited for.
    """

    def __init__(self, spec: ModelSpec, machine: Machine, patience: Patience) -> None:
        self._spec, self._machine, self._patience = spec, machine, patience
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._loading: asyncio.Future[Traits] | None = None
        self._batch: RunningBatch | None = None
        self._traits: Traits | None = None
        self._inbox, self._outbox = Shelf(), Shelf()
        self._peak_bytes = self._rest_bytes = 0
        self._longest_step_s = 0.0
        self._why = ""
        """Why it was killed, if it was."""

    @property
    def traits(self) -> Traits:
        """What the loaded model says of itself."""
        if self._traits is None:
            raise errors.ModelLoadingError("the model is not loaded")
        return self._traits

    @property
    def usage(self) -> Usage:
        """Memory of the process."""
        pid = self._process.pid if self._process else 0
        return Usage(
            resident_bytes=resident_bytes(pid),
            rest_bytes=self._rest_bytes,
            peak_bytes=self._peak_bytes,
        )

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done once the process is gone."""
        return self._ended

    async def load(self) -> None:
        """Start the process and load the model there."""
        self._start()
        self._loading = self._loop.create_future()
        try:
            async with asyncio.timeout(self._patience.load_s):
                self._traits = await self._loading
        except TimeoutError:
            raise errors.ModelCrashedError(
                f"{self._spec.id} was not loaded within {self._patience.load_s:.0f} s"
            ) from None
        finally:
            if self._traits is None:
                self.kill()

    async def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """Run a batch there."""
        try:
            segment, content = await self._packed(jobs)
        except OSError as error:
            return [errors.OutOfMemoryError(f"no memory for the picture: {error}") for _ in jobs]
        if self._channel is None:  # looked at after packing, during which it may have ended
            segment.close()
            raise WorkerLostError("the process is gone")
        self._rest_bytes = self.usage.resident_bytes
        self._batch = batch = RunningBatch(jobs, segment)
        with contextlib.ExitStack() as stack:
            stack.callback(segment.close)
            for index, job in enumerate(jobs):
                stack.enter_context(job.hooks.on_cancel(self._canceller(batch, index)))
            try:
                self._send(content, segment)
                return await batch.reply
            finally:
                self._batch = None
                if batch.kill is not None:
                    batch.kill.cancel()

    async def close(self) -> None:
        """End the process, which is idle, and wait for it."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._why = self._why or CLOSED
                self._channel.hang_up()
        if self._process is not None:
            await asyncio.wait((self._ended,), timeout=END_S)
            self.kill()
            await asyncio.shield(self._ended)

    def kill(self) -> None:
        """End the process at once; that it has ended is noticed later."""
        self._why = self._why or KILLED
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def _start(self) -> None:
        """Start the process, and send it what to load."""
        self._process, self._channel = spawn(self._spec.name)
        # Whatever is read belongs to no request: not to the one that happened to start the process.
        Context().run(self._loop.add_reader, self._channel.fileno(), self._receive)
        level = logging.getLogger("calotype").getEffectiveLevel()
        segment, content = pack_object((self._spec, self._machine, level))
        self._send(content, segment)
        segment.close()

    def _send(self, content: Message, segment: Segment) -> None:
        """Send a message; a process that is gone is noticed by the other direction."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(content, segment.fd)

    async def _packed(self, jobs: Sequence[Job]) -> tuple[Segment, Message]:
        """Pack a batch; a large one beside the event loop."""
        if sum(image.pixels.nbytes for image in pictures(jobs)) > SMALL_BYTES:
            return await asyncio.to_thread(pack_jobs, jobs, self._outbox)
        return pack_jobs(jobs, self._outbox)

    def _canceller(self, batch: RunningBatch, index: int) -> Callable[[], None]:
        """Return what tells the process that nobody waits for a job any more."""

        def cancel() -> None:
            self._loop.call_soon_threadsafe(self._cancel, batch, index)

        return cancel

    def _cancel(self, batch: RunningBatch, index: int) -> None:
        """Stop a job; a run that nobody waits for gets some time to end."""
        if self._batch is not batch:
            return  # its segment may be another's by now
        batch.cancel(index)
        if batch.abandoned and batch.kill is None:
            patience_s = max(self._patience.stop_s, SLOWEST_STEPS * self._longest_step_s)
            batch.kill = self._loop.call_later(patience_s, self._kill_hanging, patience_s)

    def _kill_hanging(self, patience_s: float) -> None:
        self._why = f"it did not stop within {patience_s:.1f} s"
        metrics.KILLS.labels(self._spec.id).inc()
        self.kill()

    def _receive(self) -> None:
        """Take what the process says."""
        if self._channel is None:
            return
        try:
            for message, fd in self._channel.receive():
                self._take(message, fd)
        except (EOFError, OSError):
            self._hung_up()
        except (ValueError, TypeError, LookupError) as error:
            self._why = f"it sent what is no message: {error!r}"
            self.kill()

    def _take(self, message: Message, fd: int | None) -> None:
        match message["is"], self._batch:
            case "progress", RunningBatch() as batch:
                self._stepped(batch)
                batch.report(message["job"], *message["step"])
            case (("note" | "fact" | "preview"), RunningBatch() as batch):
                batch.found(message)
            case "done", RunningBatch() as batch:
                self._stepped(batch)
                self._peak_bytes = message["peak_bytes"]
                self._finish(batch, message, fd)
            case "log", _:
                logging.getLogger(message["logger"]).log(message["level"], "%s", message["text"])
            case "loaded", _ if self._loading is not None and not self._loading.done():
                self._loading.set_result(traits_of(message))
            case "failed", _ if self._loading is not None and not self._loading.done():
                self._loading.set_exception(error_of(*message["error"]))
            case _:
                if fd is not None:
                    os.close(fd)

    def _finish(self, batch: RunningBatch, message: Message, fd: int | None) -> None:
        """Hand a batch its answers."""
        try:
            answers = open_answers(message, fd, self._inbox)
            if len(answers) != len(batch.jobs):
                raise ValueError(f"{len(answers)} answers for {len(batch.jobs)} jobs")
        except (OSError, ValueError, TypeError, LookupError) as error:
            self._why = f"it sent what is no answer: {error!r}"
            self.kill()
            return
        if not batch.reply.done():
            batch.reply.set_result(answers)

    def _stepped(self, batch: RunningBatch) -> None:
        """Note how long the step took that has just ended."""
        self._longest_step_s = max(self._longest_step_s, batch.stepped())

    def _hung_up(self) -> None:
        """Note that the process has ended, or is about to."""
        if self._channel is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
            self._inbox, self._outbox = Shelf(), Shelf()  # whoever still holds this needs no memory
        task = self._loop.create_task(self._reap(), name=f"reap-{self._spec.id}")
        task.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _reap(self) -> None:
        """Wait for the process, and tell whoever waits for its answers."""
        assert self._process is not None  # noqa: S101  it hung up
        try:
            code = await asyncio.to_thread(self._process.wait, END_S)
        except subprocess.TimeoutExpired:  # it closed the connection and lives on
            self.kill()
            code = await asyncio.to_thread(self._process.wait)
        by_system = code == -signal.SIGKILL and not self._why
        how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        error = WorkerLostError(
            f"the process of {self._spec.id} was lost: {self._why or how}", out_of_memory=by_system
        )
        for waiting in (self._loading, self._batch.reply if self._batch else None):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        if self._why not in (CLOSED, KILLED):
            logger.error("%s", error)
