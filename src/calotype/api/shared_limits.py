"""How many requests a token may send to all servers of a store together."""

from calotype.api.limits import WINDOW_S, RateLimiter, RateState, rate_state
from calotype.errors import StoreUnavailableError
from calotype.store.client import Store
from calotype.store.script import run_script

# By the store's clock, for those of the servers differ.
_SPEND = """
local rate, window_s = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'level', 'filled_at_s')
local level = rate
if bucket[1] then
  local passed_s = math.max(0, now_s - tonumber(bucket[2]))
  level = math.min(rate, tonumber(bucket[1]) + passed_s * rate / window_s)
end
local granted = 0
if level >= 1 then
  granted = 1
  level = level - 1
end
local written = string.format('%.17g', level)
redis.call('HSET', KEYS[1], 'level', written, 'filled_at_s', string.format('%.17g', now_s))
redis.call('PEXPIRE', KEYS[1], window_s * 1000)
return {granted, written}
"""


class SharedLimiter:
    """One bucket a token in the store; while that is away each server counts for itself.

    Args:
        store: has the buckets.
        local: counts while the store is away.
    """

    def __init__(self, store: Store, local: RateLimiter) -> None:
        self._store, self._local = store, local

    async def spend(self, name: str, rate: int) -> RateState:
        """Count one request; what is left says whether it may be served."""
        key = self._store.key("rate", name)
        try:
            granted, level = await run_script(self._store, _SPEND, (key,), rate, WINDOW_S)
        except StoreUnavailableError:
            return await self._local.spend(name, rate)
        return rate_state(float(level), rate, granted=bool(granted))
