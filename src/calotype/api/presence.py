"""Whether the client is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from calotype.errors import shutting_down

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed the connection; nobody is left to answer."""


async def while_present(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Do work for a client, and stop when the client leaves.

    Args:
        work: cancelled when the client leaves, or this call is cancelled; has ended then.
        receive: of the request, whose body has been read to its end.

    Raises:
        ClientGoneError: the client left before the work was done.
        ShuttingDownError: the work was cancelled from elsewhere, as the server ends.
    """
    task = asyncio.create_task(work)
    try:
        # A cached answer is there after one step, and needs nobody to watch.
        await asyncio.sleep(0)
        if not task.done():
            await _finished_or_gone(task, receive)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # where nobody is left to look at it, asyncio would complain
    if task.cancelled():
        raise shutting_down()
    return task.result()


async def _finished_or_gone(task: asyncio.Task[T], receive: Receive) -> None:
    """Wait for the end of a task.

    Raises:
        ClientGoneError: the client left first.
    """
    watch = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
    if not task.done():
        raise ClientGoneError


async def _gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
