"""An event loop on a thread of its own, which works for other threads."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from calotype.errors import ShuttingDownError

_CLOSED = "this Calotype is closed"
_HEED_S = 0.2
"""How often a wait is left for signals: the system may hand one to a thread that does not wait, as
libvips' are, and Python would see it only when the wait is over."""
_Result = TypeVar("_Result")


class Loop:
    """Runs coroutines for whoever calls, from any thread.

    Args:
        name: of its thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._changed = threading.Condition()
        self._calls, self._open = 0, True
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _Result], cancel: Callable[[], None]) -> _Result:
        """Run work, and wait for it; whatever ends the wait ends the work.

        Args:
            work: what to run.
            cancel: called when the wait ends otherwise, for what can't be cancelled from the loop.

        Raises:
            ShuttingDownError: it is closed, or was before the work was done.
        """
        future = self._begin(work)
        try:
            return _result(future)
        except concurrent.futures.CancelledError:
            raise ShuttingDownError(_CLOSED) from None
        except BaseException:
            cancel()
            future.cancel()
            raise
        finally:
            del future  # what it failed with holds on to this frame, and so to all that failed
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def close(self, finish: Callable[[], Coroutine[Any, Any, None]], grace_s: float) -> None:
        """Take no more work, let what was taken be done, and end the thread.

        Args:
            finish: what to run last.
            grace_s: seconds that the work gets; then it ends with ``ShuttingDownError``.
        """
        if threading.current_thread() is self._thread:  # garbage is collected on any thread
            self._open = False
            self._loop.stop()
            return
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._calls, grace_s)
        with contextlib.suppress(concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(self._finish(finish), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, _Result]) -> "concurrent.futures.Future[_Result]":
        """Count work in and start it, before ``close`` or not at all."""
        with self._changed:
            if not self._open:
                work.close()
                raise ShuttingDownError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls += 1
            return future

    async def _finish(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End what is left, so that it can tidy up; its threads last, as it may need them for that.

        That is what had no time to be done, and what nobody waited for any more.
        """
        await finish()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_default_executor()


def _result(future: "concurrent.futures.Future[_Result]") -> _Result:
    """Wait for what comes of work."""
    try:
        while not future.done():
            with contextlib.suppress(TimeoutError):  # of this wait, or the work's own
                return future.result(_HEED_S)
        return future.result()
    finally:
        del future  # as in ``call``
