"""The life of a server process: it serves, drains at the first signal, and ends."""

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sized
from types import FrameType

import uvicorn

from calotype.assembly import Services

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

FLUSH_S = 0.5
"""Seconds that the last answers get on their way out, even when the grace period is over."""
STOP_S = 10.0
"""Seconds that stopping the models may take."""
LINGER_S = 1.0
"""Seconds that Python may take to end once the server has."""


class Server(uvicorn.Server):
    """Ends as operators expect.

    - At the first signal it takes no more work: its port stays open, and new work is answered with
      503. What is in work has ``drain_s`` seconds to be done and answered; what isn't done then is
      answered with 503 too. The process ends with status 0 either way.
    - At the second signal the process ends at once, with the status 128 + signal.

    Args:
        config: of uvicorn; its time for shutting down is set when that begins.
        services: what is served.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled = False
        self._to_drain = asyncio.Event()
        self._in_work: set[asyncio.Task[None]] = set()
        """Requests that were in work when the first signal came."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: signals are ours before uvicorn runs, until the process is gone.

        uvicorn's own way gives them back, and sends itself the signal again when it has ended.
        """
        yield

    def heed_signals(self) -> None:
        """Get this process's signals from now on."""
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; if that has begun already, end at once."""
        del frame
        if self._signalled:
            self._end_now(sig)
        self._signalled = True
        self._in_work = set(self.server_state.tasks)
        if self._loop is not None:
            # A signal may come in the middle of anything; the loop takes it between two steps.
            self._loop.call_soon_threadsafe(self._to_drain.set)

    async def main_loop(self) -> None:
        """Serve until a signal has come, and what was in work is done."""
        self._loop = asyncio.get_running_loop()
        if self._signalled:
            self._to_drain.set()
        draining = asyncio.create_task(self._drain(), name="drain")
        try:
            await super().main_loop()
        finally:
            self._loop = None
            draining.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and the connections, and let go of the models."""
        await super().shutdown(sockets)
        # A thread that computes can't be stopped, and Python would wait for it.
        self._end_within(LINGER_S)

    async def _drain(self) -> None:
        """Wait for the signal, then for what is in work; then have uvicorn shut down."""
        await self._to_drain.wait()
        end_s = time.monotonic() + self._services.settings.drain_s
        try:
            await self._finish(end_s)
        except Exception:
            logger.exception("what is in work could not be waited for")
        finally:
            left_s = max(FLUSH_S, end_s - time.monotonic())
            self.config.timeout_graceful_shutdown = left_s  # type: ignore[assignment]  # any number
            self.should_exit = True

    async def _finish(self, end_s: float) -> None:
        """Let what is in work be done and answered; cut off what isn't at that time."""
        self._services.refuse()
        grace_s = self._services.settings.drain_s
        if self._left():
            logger.info(
                "shutting down: %s in work, with up to %g s; another signal stops them at once",
                _count(self._left()),
                grace_s,
            )
        is_settled = await self._services.settle()
        # Not only jobs count: a picture may be on its way in, or be encoded.
        if left := self._left():
            await asyncio.wait(left, timeout=max(0.0, end_s - time.monotonic()))
        self._end_within(max(0.0, end_s - time.monotonic()) + FLUSH_S + STOP_S)
        if left := self._left():
            logger.warning("%s not done after %g s: cut off", _count(left), grace_s)
        if left or not is_settled:
            await self._services.stop()

    def _left(self) -> list[asyncio.Task[None]]:
        """Return what was in work and still is."""
        return [task for task in self._in_work if not task.done()]

    def _end_now(self, sig: int) -> None:
        """End the process, whatever it does."""
        try:
            self._services.pool.kill()
            cut = _count(self._left())
            _say(
                logging.WARNING, f"{signal.Signals(sig).name} again: stopped at once, {cut} cut off"
            )
        finally:
            os._exit(128 + sig)

    def _end_within(self, seconds: float) -> None:
        """End the process after some time, if it hasn't ended of itself; the work is over."""

        def give_up() -> None:
            try:
                self._services.pool.kill()
                _say(logging.INFO, "ended without waiting for what still computes")
            finally:
                os._exit(0)

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()


def leave_on_signals() -> None:
    """Let a signal end this process at once, with status 0: it has nothing in work yet."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


def _count(requests: Sized) -> str:
    """Say how many requests these are."""
    return f"{len(requests)} request{'' if len(requests) == 1 else 's'}"


def _say(level: int, text: str) -> None:
    """Log a line, past the lock and the buffer of the log: whoever has them may never go on."""
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None)
    for handler in logging.getLogger().handlers:
        # A signal comes in the middle of some request, whose id is not that of this line.
        line = contextvars.Context().run(handler.format, record)
        os.write(2, f"{line}\n".encode())
