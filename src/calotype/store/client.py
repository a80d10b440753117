"""A connection to Redis or Valkey, which may be away for a while."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis import asyncio as redis
from redis.exceptions import RedisError

from calotype.errors import StoreUnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")
PREFIX = "calotype"
"""Of every key, so that a store may serve others too."""


class Store:
    """What several servers share; belongs to one event loop.

    Once it does not answer it is left alone for a moment, so that a store that is away costs
    requests no time.

    Args:
        url: ``redis://HOST:PORT/DATABASE``, ``rediss://`` with TLS, ``unix://PATH``.
        timeout_s: within which it has to answer.
        rest_s: how long it is left alone after it did not.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 1.0,
        rest_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._rest_s, self._clock = rest_s, clock
        self._failed_s: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last."""
        return self._failed_s is None

    def key(self, *parts: str) -> str:
        """Return the name of what is kept."""
        return ":".join((PREFIX, *parts))

    async def ask(self, work: "Callable[[redis.Redis], Awaitable[T]]") -> T:
        """Do something with the store.

        Args:
            work: given the client, whose replies are bytes.

        Raises:
            StoreUnavailableError: it doesn't answer, or didn't a moment ago.
        """
        if self._failed_s is not None and self._clock() - self._failed_s < self._rest_s:
            raise _away()
        try:
            reply = await work(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            if self._failed_s is None:
                logger.warning("the store does not answer: %s", error)
            self._failed_s = self._clock()
            raise _away() from error
        if self._failed_s is not None:
            logger.info("the store answers again")
            self._failed_s = None
        return reply

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _away() -> StoreUnavailableError:
    return StoreUnavailableError("the shared store does not answer", retry_after_s=1.0)
