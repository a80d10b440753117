"""Identical work in flight on several servers, done once."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from calotype.cache.flight import Flights
from calotype.cache.memory import Entry
from calotype.cache.tiered import TieredCache
from calotype.domain.failure import describe, error_of
from calotype.domain.hooks import Hooks
from calotype.domain.request import Outcome
from calotype.errors import BackendError, CalotypeError, RequestError, StoreUnavailableError
from calotype.store.client import Store
from calotype.store.script import run_script

Made = tuple[Entry, Outcome | None]
"""An answer, and how the run went that made it, unless that was on another server."""

LEASE_S = 3.0
"""How long the others wait for a server that has died."""
VERDICT_S = 10.0
"""How long it can be read how a computation ended; its waiters need milliseconds."""
LOOK_S = 0.5
"""How often those who wait look themselves, should they have missed the news."""

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
"""Take a lease that is free, or renew one's own; return whose it is."""

_LAND = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
redis.call('PUBLISH', KEYS[3], ARGV[1])
"""
"""Give a lease back, say how it went, and wake those who wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    """The right to compute something for all the servers."""

    store: Store
    key: str
    owner: str
    seconds: float

    async def take(self) -> str:
        """Take it if it's free, or renew it; return its owner."""
        name, milliseconds = self.store.key("flight", self.key), int(self.seconds * 1000)
        holder: bytes = await run_script(self.store, _TAKE, (name,), self.owner, milliseconds)
        return holder.decode()

    async def hold(self, ended: asyncio.Event) -> None:
        """Renew it until the work has ended; while the store is away, it is anybody's."""
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), self.seconds / 3)
                return
            with contextlib.suppress(StoreUnavailableError):
                await self.take()

    async def land(self, verdict: str) -> None:
        """Give it back, and tell those who wait how it went."""
        flight, told = self.store.key("flight", self.key), self.store.key("verdict", self.owner)
        channel, milliseconds = self.store.key("landed", self.key), int(VERDICT_S * 1000)
        with contextlib.suppress(StoreUnavailableError):
            keys = (flight, told, channel)
            await run_script(self.store, _LAND, keys, self.owner, verdict, milliseconds)

    async def verdict(self, holder: str) -> str | None:
        """Wait for the end of another's computation; None: it vanished, or it is its own affair."""
        flight, told = self.store.key("flight", self.key), self.store.key("verdict", holder)
        async with self.store.listening(self.store.key("landed", self.key)) as news:
            while True:
                found: Any = await self.store.ask(lambda client: client.mget(flight, told))
                now, verdict = found
                if verdict is not None:
                    return str(verdict, "utf-8")
                if now is None or str(now, "ascii") != holder:
                    return None
                await news(LOOK_S)


class SharedFlights:
    """Compute once for all the servers that share a store and a cache.

    Callers on one server join first, as in ``SingleFlight``. Then one server takes a lease in the
    store, which it renews while it computes; the others wait until the answer is in the cache. They
    get a ``RequestError`` or ``BackendError`` too; of whatever else ends a computation (its server
    dies, is busy, or lost the caller) one of the others makes a new start.

    Without the store, each server computes by itself.

    Args:
        local: joins the callers of this server.
        store: where leases are.
        cache: where ``compute`` puts its answers, under the first word of their keys.
        lease_s: after which a lease is free if nobody renews it.
    """

    def __init__(
        self,
        local: Flights[tuple[Made, bool]],
        store: Store,
        cache: TieredCache,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._local, self._store, self._cache = local, store, cache
        self._lease_s = lease_s
        self._landings: set[asyncio.Task[None]] = set()

    async def run(
        self, key: str, compute: Callable[[Hooks], Awaitable[Made]], hooks: Hooks
    ) -> tuple[Made, bool]:
        """Return the computation's result, and whether it was another caller's computation.

        Args:
            key: equal for equal work; its first word is what the cache knows the answer by.
            compute: puts its answer into the cache.
            hooks: told what happens, if it happens on this server.

        Raises:
            Exception: whatever the computation raised.
        """
        (made, is_remote), is_local = await self._local.run(
            key, lambda crowd: self._fly(key, compute, crowd), hooks
        )
        return made, is_remote or is_local

    async def settle(self) -> None:
        """Wait until the leases of what has ended are given back."""
        if self._landings:
            await asyncio.wait(self._landings)

    async def _fly(
        self, key: str, compute: Callable[[Hooks], Awaitable[Made]], hooks: Hooks
    ) -> tuple[Made, bool]:
        """Compute, or wait for another server; tell which."""
        try:
            found = await self._board(key)
        except StoreUnavailableError:
            found = None
        if isinstance(found, Entry):
            return (found, None), True
        if found is None:
            return await compute(hooks), False
        return await self._lead(found, compute, hooks), False

    async def _board(self, key: str) -> _Lease | Entry | None:
        """Return an answer, the right to make it, or None: it can't be shared.

        Raises:
            CalotypeError: another server's, which computed the same.
            StoreUnavailableError: there is nothing to agree through.
        """
        answer = _answer_key(key)
        while True:
            owner = secrets.token_hex(16)
            lease = _Lease(store=self._store, key=key, owner=owner, seconds=self._lease_s)
            try:
                holder = await lease.take()
                # It may have landed between the first look into the cache and this.
                entry = await self._cache.get(answer) if holder == owner else None
            except asyncio.CancelledError:
                self._begin(lease.land(""))
                raise
            if entry is not None:
                self._begin(lease.land(""))
                return entry
            if holder == owner:
                return lease
            verdict = await lease.verdict(holder)
            if verdict is not None:
                _raise_error(verdict)
                return await self._cache.get(answer)  # None: too large to be shared

    async def _lead(
        self, lease: _Lease, compute: Callable[[Hooks], Awaitable[Made]], hooks: Hooks
    ) -> Made:
        ended, verdict = asyncio.Event(), ""
        holding = asyncio.create_task(lease.hold(ended), name="lease")
        try:
            made = await compute(hooks)
            verdict = _verdict(None)
        except (RequestError, BackendError) as error:
            verdict = _verdict(error)
            raise
        finally:
            self._begin(self._land(lease, ended, holding, verdict))
        return made

    async def _land(
        self, lease: _Lease, ended: asyncio.Event, holding: asyncio.Task[None], verdict: str
    ) -> None:
        """End a flight, once its answer is where the others will look for it."""
        await self._cache.settle(_answer_key(lease.key))
        # Not cancelled: a renewal on its way could come after the end.
        ended.set()
        await holding
        await lease.land(verdict)

    def _begin(self, landing: Coroutine[None, None, None]) -> None:
        """Begin what no caller waits for."""
        task = asyncio.create_task(landing, name="landing")
        self._landings.add(task)
        task.add_done_callback(self._landings.discard)


def _answer_key(flight: str) -> str:
    """Return what the cache knows a flight's answer by."""
    return flight.partition(" ")[0]


def _verdict(error: CalotypeError | None) -> str:
    """Write how a computation ended."""
    if error is None:
        return "{}"
    name, text = describe(error)
    return json.dumps({"error": name, "text": text, "stage": error.stage})


def _raise_error(verdict: str) -> None:
    """Raise the error that a verdict tells of, if it does."""
    told = json.loads(verdict)
    if told:
        error = error_of(told["error"], told["text"])
        if isinstance(error, CalotypeError):
            error.stage = told["stage"]
        raise error
