"""What it looks like from a server in front when a replica is lost."""

import asyncio

from grpc.aio import AioRpcError
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from calotype.errors import ModelCrashedError

LOST = (RayError, RayServeException, AioRpcError, asyncio.CancelledError)
"""What Ray raises of itself, and what a replica's own end looks like from here."""


def check_lost(error: BaseException) -> None:
    """Raise what is no loss of a replica.

    Raises:
        CancelledError: it is us who are cancelled.
        ModelCrashedError: the replica lives, and has a bug.
    """
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    if isinstance(error, RayTaskError) and not isinstance(error.cause, LOST):
        raise ModelCrashedError(repr(error.cause)) from error
