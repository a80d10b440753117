"""How Redis or Valkey is reached; imported only where there is a store."""

from typing import Any

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as LateError

from calotype.errors import InvalidSettingError

REFUSALS = (ResponseError,)
"""It answers, and doesn't do it."""
RESET = RuntimeError
"""What uvloop says of a connection that was reset while nobody used it."""
LOSSES = (LostError, LateError, InvalidResponse, OSError, RESET)
"""It doesn't answer as a store does."""
RETRIED: Any = (LostError, RESET)  # the library's types allow only its own
MAX_CONNECTIONS = 10_000
"""Far more than may wait for news at a time, each on a connection: too many is no loss."""


def connect(url: str, timeout_s: float) -> redis.Redis:
    """Return a client, which connects when it is used first.

    Args:
        url: as ``Store`` takes it.
        timeout_s: for an answer, and for a connection.

    Raises:
        InvalidSettingError: the URL is none.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # A connection that was closed while nobody used it is opened anew; what takes too long
            # once isn't tried again.
            retry=Retry(NoBackoff(), 1, supported_errors=RETRIED),
            max_connections=MAX_CONNECTIONS,
        )
        # Looks at what else the URL says.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (AttributeError, TypeError, ValueError, RedisError):  # each of them for some option
        # Neither the value nor the error is repeated, for either may hold a password.
        raise InvalidSettingError(
            "store_url must be redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE (TLS) or"
            " unix://PATH, with the options of redis-py alone and values that they take;"
            " percent-encode what is special in a password"
        ) from None
    return client
