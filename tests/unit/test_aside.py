"""Blocking work beside the event loop is seen through."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from calotype.aside import off_loop, see_through


class Block:
    """A ``with`` block that notes what is done to it, and by which thread."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.threads: set[int] = set()
        self.entering, self.may_enter = threading.Event(), threading.Event()
        self.may_enter.set()

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        self.threads.add(threading.get_ident())
        self.entering.set()
        self.may_enter.wait(60)
        self.done.append("entered")
        try:
            yield 5
        except BaseException as error:
            self.done.append(type(error).__name__)
            raise
        finally:
            self.threads.add(threading.get_ident())
            self.done.append("left")


def test_it_is_entered_and_left_on_other_threads() -> None:
    block = Block()

    async def run() -> None:
        async with off_loop(block.open()) as value:
            assert value == 5
            assert block.done == ["entered"]

    asyncio.run(run())
    assert block.done == ["entered", "left"]
    assert threading.get_ident() not in block.threads


def test_it_knows_what_failed_inside() -> None:
    block = Block()

    async def run() -> None:
        async with off_loop(block.open()):
            raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        asyncio.run(run())
    assert block.done == ["entered", "KeyError", "left"]


async def cancelled(task: "asyncio.Task[None]") -> bool:
    task.cancel()
    await asyncio.wait((task,), timeout=0.01)
    return task.done()


def test_what_is_cancelled_while_it_is_entered_is_left() -> None:
    block = Block()
    block.may_enter.clear()

    async def inside() -> None:
        async with off_loop(block.open()):
            raise AssertionError("cancelled before that")

    async def run() -> None:
        task = asyncio.create_task(inside())
        await asyncio.to_thread(block.entering.wait)
        assert not await cancelled(task)
        assert not await cancelled(task)
        block.may_enter.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert block.done == ["entered", "CancelledError", "left"]


def test_what_is_cancelled_waits_until_it_is_left() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(60)

    async def run() -> None:
        task = asyncio.create_task(see_through(work))
        await asyncio.to_thread(begun.wait)
        assert not await cancelled(task)
        assert not await cancelled(task)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_what_fails_is_told() -> None:
    def fail() -> None:
        raise OSError("told to fail")

    with pytest.raises(OSError, match="told to fail"):
        asyncio.run(see_through(fail))
