from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.api import limits
from calotype.api.auth import Caller
from calotype.api.limits import RateLimiter, RateState, headers
from calotype.api.tokens import Token
from calotype.errors import RateLimitedError


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def caller(rate: int | None = 60, name: str = "ci") -> Caller:
    created_at = datetime(2025, 6, 1, tzinfo=UTC)
    return Caller(name, Token(name=name, rate_per_minute=rate, created_at=created_at))


def spend_all(limiter: RateLimiter, who: Caller) -> int:
    spent = 0
    while True:
        try:
            limiter.spend(who)
        except RateLimitedError:
            return spent
        spent += 1


@pytest.mark.parametrize("who", [Caller("", None), caller(None)])
def test_without_a_rate_there_is_no_limit(who: Caller) -> None:
    limiter = RateLimiter(Clock())
    assert [limiter.spend(who) for _ in range(1000)] == [None] * 1000
    assert limiter.peek(who) is None
    assert len(limiter) == 0


def test_counts_down_and_then_refuses() -> None:
    limiter, who = RateLimiter(Clock()), caller(3)
    states = [limiter.spend(who) for _ in range(3)]
    assert states == [
        RateState(limit=3, remaining=2, reset_s=20.0),
        RateState(limit=3, remaining=1, reset_s=40.0),
        RateState(limit=3, remaining=0, reset_s=20.0),
    ]
    with pytest.raises(RateLimitedError, match="Token ci may send 3 requests a minute") as caught:
        limiter.spend(who)
    assert caught.value.retry_after_s == 20.0
    assert limiter.peek(who) == RateState(limit=3, remaining=0, reset_s=20.0)


def test_after_retry_after_there_is_one_again() -> None:
    clock, who = Clock(), caller(3)
    limiter = RateLimiter(clock)
    spend_all(limiter, who)
    clock.now_s += 19.9
    assert spend_all(limiter, who) == 0
    clock.now_s += 0.2
    assert spend_all(limiter, who) == 1


def test_refills_no_further_than_the_rate() -> None:
    clock, who = Clock(), caller(10)
    limiter = RateLimiter(clock)
    assert spend_all(limiter, who) == 10
    clock.now_s += 86_400
    assert spend_all(limiter, who) == 10


def test_tokens_spend_apart() -> None:
    limiter = RateLimiter(Clock())
    assert spend_all(limiter, caller(2, "a")) == 2
    assert spend_all(limiter, caller(2, "b")) == 2


def test_a_token_made_anew_with_a_lower_rate_has_no_more_than_that() -> None:
    limiter = RateLimiter(Clock())
    limiter.spend(caller(100))
    assert spend_all(limiter, caller(5)) == 5


def test_peeking_costs_nothing() -> None:
    limiter, who = RateLimiter(Clock()), caller(2)
    for _ in range(5):
        assert limiter.peek(who) == RateState(limit=2, remaining=2, reset_s=0)
    assert spend_all(limiter, who) == 2


def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BUCKETS", 3)
    limiter = RateLimiter(Clock())
    for name in "abcade":
        limiter.spend(caller(2, name))
    assert len(limiter) == 3
    assert spend_all(limiter, caller(2, "a")) == 0  # twice used, and lately: not forgotten


def test_headers_have_the_form_of_the_draft() -> None:
    assert headers(RateState(limit=100, remaining=50, reset_s=29.2)) == [
        (b"ratelimit", b'"default";r=50;t=30'),
        (b"ratelimit-policy", b'"default";q=100;w=60'),
    ]


@given(
    rate=st.integers(min_value=1, max_value=50),
    waits_s=st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.5, 61.0]), max_size=200),
)
def test_no_span_of_time_lets_more_through_than_bucket_and_refill(
    rate: int, waits_s: list[float]
) -> None:
    clock, who = Clock(), caller(rate)
    limiter, passed_s = RateLimiter(clock), list[float]()
    for wait_s in waits_s:
        clock.now_s += wait_s
        before = limiter.peek(who)
        assert before is not None
        if not before.remaining:
            assert 0 < before.reset_s <= 60 / rate
            with pytest.raises(RateLimitedError):
                limiter.spend(who)
            continue
        state = limiter.spend(who)
        passed_s.append(clock.now_s)
        assert state is not None
        assert state.remaining == before.remaining - 1
        assert 0 < state.reset_s <= 60
    for first, start_s in enumerate(passed_s):
        for last in range(first, len(passed_s)):
            refill = (passed_s[last] - start_s) * rate / 60
            assert last - first + 1 <= rate + refill + 1e-6
