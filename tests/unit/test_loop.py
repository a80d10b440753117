"""The loop of the library ends when all that was begun is done."""

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import Callable

import pytest

from calotype.errors import ShuttingDownError
from calotype.loop import Loop


async def nothing() -> None:
    pass


def ignore() -> None:
    pass


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def closed(loop: Loop, grace_s: float = 60) -> threading.Thread:
    thread = threading.Thread(target=lambda: loop.close(nothing, grace_s))
    thread.start()
    return thread


def is_open(loop: Loop) -> bool:
    try:
        loop.call(nothing(), ignore)
    except ShuttingDownError:
        return False
    return True


def test_it_works_for_any_thread() -> None:
    loop, results = Loop("test"), list[int]()
    threads = [
        threading.Thread(target=lambda n=n: results.append(loop.call(double(n), ignore)))
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.close(nothing, 0)
    assert sorted(results) == list(range(0, 20, 2))


def test_closing_waits_for_all_parts_of_what_was_begun() -> None:
    loop, begun, may_go_on = Loop("test"), threading.Event(), threading.Event()

    def part() -> None:
        begun.set()
        may_go_on.wait(60)

    async def work() -> int:
        for _ in range(3):  # each begins anew on a thread, which must be there
            await asyncio.to_thread(part)
        return 1

    results: list[int] = []
    caller = threading.Thread(target=lambda: results.append(loop.call(work(), ignore)))
    caller.start()
    begun.wait(60)
    closing = closed(loop)
    while is_open(loop):
        pass
    assert closing.is_alive()
    may_go_on.set()
    caller.join()
    closing.join()
    assert results == [1]


def test_after_its_grace_work_is_cancelled_and_may_tidy_up() -> None:
    loop, begun, tidied = Loop("test"), threading.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.to_thread(tidied.append, "yes")

    errors: list[BaseException] = []

    def call() -> None:
        try:
            loop.call(work(), ignore)
        except BaseException as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    begun.wait(60)
    closed(loop, 0).join()
    caller.join()
    assert [type(error) for error in errors] == [ShuttingDownError]
    assert tidied == ["yes"]


def call_on(loop: Loop, errors: list[BaseException]) -> None:
    """Call until that fails."""
    try:
        while True:
            loop.call(asyncio.to_thread(ignore), ignore)
    except BaseException as error:
        errors.append(error)


def test_whoever_calls_while_it_closes_is_answered_or_refused() -> None:
    for _ in range(20):
        loop, errors = Loop("test"), list[BaseException]()
        threads = [threading.Thread(target=call_on, args=(loop, errors)) for _ in range(4)]
        for thread in threads:
            thread.start()
        loop.close(nothing, 0)
        for thread in threads:
            thread.join()
        assert [type(error) for error in errors] == [ShuttingDownError] * 4


def test_what_failed_is_free_at_once() -> None:
    """The error held on to the call, which held on to the error."""

    class Thing:
        pass

    def failing() -> "tuple[Callable[[], None], weakref.ref[Thing]]":
        thing = Thing()

        async def work(thing: Thing) -> None:
            await asyncio.sleep(0)
            raise ValueError(str(thing))

        ref = weakref.ref(thing)
        return (lambda: loop.call(work(thing), ignore)), ref

    loop = Loop("test")
    gc.collect()
    gc.disable()
    try:
        call, ref = failing()
        with pytest.raises(ValueError, match="Thing"):
            call()
        del call
        loop.call(nothing(), ignore)
        assert ref() is None
    finally:
        gc.enable()
        loop.close(nothing, 0)


def test_a_signal_that_another_thread_took_interrupts_the_wait() -> None:
    loop, began, may_end = Loop("test"), threading.Event(), threading.Event()
    taker = threading.Thread(target=may_end.wait)
    taker.start()

    async def work() -> None:
        began.set()
        await asyncio.sleep(60)

    def send() -> None:
        began.wait()
        assert taker.ident is not None
        # Python's handler runs in the main thread, which nothing wakes.
        signal.pthread_kill(taker.ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.call(work(), ignore)
    finally:
        signal.signal(signal.SIGINT, before)
        may_end.set()
        sender.join()
        taker.join()
        loop.close(nothing, 0)


def test_a_timeout_of_the_work_is_no_timeout_of_the_wait() -> None:
    loop = Loop("test")

    async def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        loop.call(late(), ignore)
    loop.close(nothing, 0)
