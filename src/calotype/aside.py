"""What blocks, beside the event loop, and seen through once it is begun."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

_Result = TypeVar("_Result")


@contextlib.asynccontextmanager
async def off_loop(manager: contextlib.AbstractContextManager[_Result]) -> AsyncIterator[_Result]:
    """Enter and leave a ``with`` block on a thread; leaving is waited for even when cancelled."""
    stack = contextlib.ExitStack()
    try:
        yield await see_through(partial(stack.enter_context, manager))
    except BaseException as error:
        await see_through(partial(stack.__exit__, type(error), error, error.__traceback__))
        raise
    await see_through(partial(stack.__exit__, None, None, None))


async def see_through(work: Callable[[], _Result]) -> _Result:
    """Do work on a thread, and wait for it; who is cancelled meanwhile is so once it is done."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancelled = error
        result = future.result()
        if cancelled is not None:
            raise cancelled
        return result
    finally:
        del future, cancelled  # what they failed with holds on to this frame
