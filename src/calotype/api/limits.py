"""How many requests a token may send."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from calotype.api.auth import Caller
from calotype.errors import RateLimitedError

MAX_BUCKETS = 10_000
"""Tokens whose spending is remembered; beyond, the one idle for longest is forgotten."""

_WINDOW_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """What a caller has left."""

    limit: int
    """Requests a minute."""
    remaining: int
    reset_s: float
    """Until all of the limit is there again; with nothing remaining, until the next request."""


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

    def spend(self, caller: Caller) -> RateState | None:
        """Count one request; return what is left, or None for a caller without a limit.

        Raises:
            RateLimitedError: nothing is left; the request must not be served.
        """
        rate = _rate(caller)
        if rate is None:
            return None
        bucket = self._refilled(caller.name, rate)
        if bucket.level < 1:
            wait_s = _state(bucket, rate).reset_s
            raise RateLimitedError(
                f"Token {caller.name} may send {rate} requests a minute; try again in"
                f" {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )
        bucket.level -= 1
        return _state(bucket, rate)

    def peek(self, caller: Caller) -> RateState | None:
        """Return what is left without counting a request, for the headers of a refusal."""
        rate = _rate(caller)
        return None if rate is None else _state(self._refilled(caller.name, rate), rate)

    def _refilled(self, name: str, rate: int) -> _Bucket:
        now_s = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(rate, now_s)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(name)
        gained = (now_s - bucket.filled_at_s) * rate / _WINDOW_S
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
    policy = f'"default";q={state.limit};w={_WINDOW_S}'
    return [(b"ratelimit", left.encode()), (b"ratelimit-policy", policy.encode())]


def _rate(caller: Caller) -> int | None:
    return None if caller.token is None else caller.token.rate_per_minute


def _state(bucket: _Bucket, rate: int) -> RateState:
    remaining = int(bucket.level)
    goal = rate if remaining else 1
    return RateState(
        limit=rate, remaining=remaining, reset_s=(goal - bucket.level) * _WINDOW_S / rate
    )
