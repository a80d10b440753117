"""A connection to Redis or Valkey, which may be away for a while."""

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from calotype.errors import MissingExtraError, StoreUnavailableError
from calotype.observe import metrics

if TYPE_CHECKING:  # a server without a store needs no package for one
    from redis import asyncio as redis

logger = logging.getLogger(__name__)

T = TypeVar("T")
Client: TypeAlias = "redis.Redis"
"""What the store is asked through; its replies are bytes."""
News = Callable[[float], Awaitable[None]]
"""Waits until something is published, or so many seconds are over; may return earlier."""
PREFIX = "calotype"
"""Of every key, so that a store may serve others too."""
AWAY = "the shared store does not answer"


class Store:
    """What several servers share; belongs to one event loop.

    Once it does not answer it is left alone, so that a store that is away costs requests no time,
    but for a small question now and then that finds out when it is back.

    Args:
        url: ``redis://HOST:PORT/DATABASE``, ``rediss://`` with TLS, ``unix://PATH``.
        timeout_s: within which it has to answer.
        rest_s: how long it is left alone between two small questions.

    Raises:
        InvalidSettingError: the URL is none of these.
        MissingExtraError: the package ``redis`` isn't installed.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, rest_s: float = 0.5) -> None:
        connection = _import_connection()
        self._client: Client = connection.connect(url, timeout_s)
        self._refusals, self._losses = connection.REFUSALS, connection.LOSSES
        self._rest_s = rest_s
        self.wait_s = timeout_s / 2
        """How long it may be asked to wait for news at a time."""
        self._refused: set[str] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._is_closed = False
        metrics.STORE_UP.set(1)  # until it turns out otherwise

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last."""
        return self._recovery is None and not self._is_closed

    def key(self, *parts: str) -> str:
        """Return the name of what is kept."""
        return ":".join((PREFIX, *parts))

    async def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with the store.

        Args:
            work: given the client.

        Raises:
            StoreUnavailableError: it doesn't answer, didn't a moment ago, or refuses this. E.g.
                because it is full.
        """
        if not self.is_up:
            raise _away()
        try:
            return await _heeding_cancellation(work(self._client))
        except self._refusals as error:
            metrics.STORE_FAILURES.inc()
            self._report_refusal(str(error))
            raise StoreUnavailableError(
                "the shared store refuses this", retry_after_s=1.0
            ) from error
        except self._losses as error:
            metrics.STORE_FAILURES.inc()
            self._lose(error)
            raise _away() from error

    async def check(self) -> None:
        """Find out whether it answers, for ``is_up``."""
        with contextlib.suppress(StoreUnavailableError):
            await self.ask(lambda client: client.ping())

    @contextlib.asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[News]:
        """Hear what is published in a channel, over a connection of its own.

        What is published before the first call of what this gives has returned may be missed, so
        look at the state between two calls.

        Raises:
            StoreUnavailableError: it doesn't answer.
        """
        pubsub = self._client.pubsub()

        async def news(patience_s: float) -> None:
            await self.ask(lambda _: pubsub.get_message(timeout=patience_s))

        try:
            await self.ask(lambda _: pubsub.subscribe(channel))
            yield news
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close all connections, and open none any more."""
        self._is_closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait((self._recovery,))
        await self._client.aclose()

    def _lose(self, error: Exception) -> None:
        if self.is_up:
            logger.warning("the store does not answer: %s", error)
            metrics.STORE_UP.set(0)
            self._recovery = asyncio.create_task(self._recover(), name="store-recovery")

    async def _recover(self) -> None:
        """Ask until it answers."""
        while not self._is_closed:
            await asyncio.sleep(self._rest_s)
            with contextlib.suppress(*self._refusals, *self._losses):
                await self._client.ping()
                logger.info("the store answers again")
                metrics.STORE_UP.set(1)
                self._recovery = None
                return

    def _report_refusal(self, text: str) -> None:
        """Log a refusal, once for each of its kinds, which its first word is."""
        kind = text.partition(" ")[0]
        if kind not in self._refused:
            self._refused.add(kind)
            logger.warning("the store refuses: %s", text)


async def _heeding_cancellation(work: Awaitable[T]) -> T:
    """Wait for something, whose cancellation ``asyncio.wait_for`` may swallow in it.

    Source:
        https://github.com/python/cpython/issues/86296, in Python before 3.12; redis-py sends so.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await work
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def _import_connection() -> ModuleType:
    """Import what needs the package ``redis``, which a server without a store does without."""
    try:
        return importlib.import_module("calotype.store.connection")
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise MissingExtraError(
            "store_url needs the package redis: pip install 'calotype[store]'"
        ) from error


def _away() -> StoreUnavailableError:
    return StoreUnavailableError(AWAY, retry_after_s=1.0)
