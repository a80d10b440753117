"""Ctrl-C while a thread waits for work on an event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch, reached: threading.Event, patience_s: float
) -> Iterator[None]:
    """Expect that whoever waits is interrupted once something is reached, as by Ctrl-C."""

    class Future:
        def __init__(self, future: object) -> None:
            self._future = future

        def done(self) -> bool:
            return False

        def result(self, timeout_s: float) -> None:
            reached.wait(patience_s)
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self._future.cancel()  # type: ignore[attr-defined]

    submit = asyncio.run_coroutine_threadsafe
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", lambda c, loop: Future(submit(c, loop)))
        with pytest.raises(KeyboardInterrupt):
            yield
