import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.api import limits
from calotype.api.limits import RateLimiter, RateState, headers, spent


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


async def spend_all(limiter: RateLimiter, rate: int, name: str = "ci") -> int:
    spent = 0
    while (await limiter.spend(name, rate)).granted:
        spent += 1
    return spent


async def test_counts_down_and_then_refuses() -> None:
    limiter = RateLimiter(Clock())
    states = [await limiter.spend("ci", 3) for _ in range(4)]
    assert states == [
        RateState(limit=3, remaining=2, reset_s=20.0),
        RateState(limit=3, remaining=1, reset_s=40.0),
        RateState(limit=3, remaining=0, reset_s=20.0),
        RateState(limit=3, remaining=0, reset_s=20.0, granted=False),
    ]
    refusal = spent("ci", states[-1])
    assert str(refusal) == "Token ci may send 3 requests a minute; try again in 20 s"
    assert refusal.retry_after_s == 20.0


async def test_after_retry_after_there_is_one_again() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    await spend_all(limiter, 3)
    clock.now_s += 19.9
    assert await spend_all(limiter, 3) == 0
    clock.now_s += 0.2
    assert await spend_all(limiter, 3) == 1


async def test_refills_no_further_than_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert await spend_all(limiter, 10) == 10
    clock.now_s += 86_400
    assert await spend_all(limiter, 10) == 10


async def test_tokens_spend_apart() -> None:
    limiter = RateLimiter(Clock())
    assert await spend_all(limiter, 2, "a") == 2
    assert await spend_all(limiter, 2, "b") == 2


async def test_a_token_made_anew_with_a_lower_rate_has_no_more_than_that() -> None:
    limiter = RateLimiter(Clock())
    await limiter.spend("ci", 100)
    assert await spend_all(limiter, 5) == 5


async def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BUCKETS", 3)
    limiter = RateLimiter(Clock())
    for name in "abcade":
        await limiter.spend(name, 2)
    assert len(limiter) == 3
    assert await spend_all(limiter, 2, "a") == 0  # twice used, and lately: not forgotten


def test_headers_have_the_form_of_the_draft() -> None:
    assert headers(RateState(limit=100, remaining=50, reset_s=29.2)) == [
        (b"ratelimit", b'"default";r=50;t=30'),
        (b"ratelimit-policy", b'"default";q=100;w=60'),
    ]


@given(
    rate=st.integers(min_value=1, max_value=50),
    waits_s=st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.5, 61.0]), max_size=200),
)
async def test_no_span_of_time_lets_more_through_than_bucket_and_refill(
    rate: int, waits_s: list[float]
) -> None:
    clock = Clock()
    limiter, passed_s, remaining = RateLimiter(clock), list[float](), rate
    for wait_s in waits_s:
        clock.now_s += wait_s
        state = await limiter.spend("ci", rate)
        if not wait_s:
            assert state.granted == (remaining > 0)
            assert state.remaining == max(0, remaining - 1)
        remaining = state.remaining
        assert 0 < state.reset_s <= 60
        if state.granted:
            passed_s.append(clock.now_s)
        else:
            assert state.reset_s <= 60 / rate
    for first, start_s in enumerate(passed_s):
        for last in range(first, len(passed_s)):
            refill = (passed_s[last] - start_s) * rate / 60
            assert last - first + 1 <= rate + refill + 1e-6
