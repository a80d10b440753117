"""How many requests a token may send."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from calotype.errors import RateLimitedError

MAX_BUCKETS = 10_000
"""Tokens whose spending is remembered; beyond, the one idle for longest is forgotten."""

WINDOW_S = 60
"""In which a bucket is filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """What a caller has left."""

    limit: int
    """Requests a minute."""
    remaining: int
    reset_s: float
    """Until all of the limit is there again; with nothing remaining, until the next request."""
    granted: bool = True
    """Whether the request that was counted may be served."""


class Limiter(Protocol):
    """Counts the requests of tokens that have a rate."""

    async def spend(self, name: str, rate: int) -> RateState:
        """Count one request; what is left says whether it may be served.

        Args:
            name: of the token.
            rate: its requests a minute.
        """
        ...


@dataclass(slots=True)
class _Bucket:
    level: float
    filled_at_s: float


class RateLimiter:
    """A token bucket for each token that has a rate: it holds, and refills in, one minute's worth.

    Args:
        clock: monotonic, seconds.

    Source:
        https://en.wikipedia.org/wiki/Token_bucket
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # longest idle first

    def __len__(self) -> int:
        return len(self._buckets)

    async def spend(self, name: str, rate: int) -> RateState:
        """Count one request; what is left says whether it may be served."""
        bucket = self._refilled(name, rate)
        if bucket.level < 1:
            return rate_state(bucket.level, rate, granted=False)
        bucket.level -= 1
        return rate_state(bucket.level, rate)

    def _refilled(self, name: str, rate: int) -> _Bucket:
        now_s = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(rate, now_s)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(name)
        gained = (now_s - bucket.filled_at_s) * rate / WINDOW_S
        # At most the rate of today: a token may have been made anew with a lower one.
        bucket.level = min(float(rate), bucket.level + gained)
        bucket.filled_at_s = now_s
        return bucket


def headers(state: RateState) -> list[tuple[bytes, bytes]]:
    """Return the response headers that tell a client what it has left.

    Source:
        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """
    left = f'"default";r={state.remaining};t={math.ceil(state.reset_s)}'
    policy = f'"default";q={state.limit};w={WINDOW_S}'
    return [(b"ratelimit", left.encode()), (b"ratelimit-policy", policy.encode())]


def spent(name: str, state: RateState) -> RateLimitedError:
    """Return what is told to a caller that has nothing left."""
    return RateLimitedError(
        f"Token {name} may send {state.limit} requests a minute; try again in"
        f" {math.ceil(state.reset_s)} s",
        retry_after_s=state.reset_s,
    )


def rate_state(level: float, rate: int, *, granted: bool = True) -> RateState:
    """Return what a bucket at that level means to a caller."""
    remaining = int(level)
    goal = rate if remaining else 1
    reset_s = (goal - level) * WINDOW_S / rate
    return RateState(limit=rate, remaining=remaining, reset_s=reset_s, granted=granted)
