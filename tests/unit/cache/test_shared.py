"""Answers in a store that several servers share."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from calotype.cache.memory import Entry, MemoryCache
from calotype.cache.shared import INLINE_BYTES, TRUST_S, RecheckedCache, SharedCache
from calotype.cache.tiered import TieredCache
from calotype.store.client import Store
from redis_server import RedisServer

ENTRY = Entry(
    body=b"\0picture\xff", format="png", etag="e1", seed=7, notes=("a note",), facts={"safety": "x"}
)
OTHER = replace(ENTRY, body=b"another", etag="e2")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(redis_server.url, timeout_s=10, rest_s=0.02)
    yield store
    await store.close()


def make(store: Store, keep_s: float = 60.0, max_entry_bytes: int = 10_000_000) -> SharedCache:
    return SharedCache(store, keep_s=keep_s, max_entry_bytes=max_entry_bytes)


async def test_one_server_reads_what_another_stored(
    redis_server: RedisServer, store: Store
) -> None:
    await make(store).put("k", ENTRY)
    other = Store(redis_server.url)
    assert await make(other).get("k") == ENTRY
    assert await make(other).get("none") is None
    assert await make(other).etag("k") == "e1"
    assert await make(other).etag("none") is None
    await other.close()


async def test_a_large_entry_is_kept_whole(store: Store) -> None:
    large = replace(ENTRY, body=bytes(range(256)) * (INLINE_BYTES // 128))
    await make(store).put("k", large)
    assert await make(store).get("k") == large


async def test_an_entry_is_forgotten_in_the_end(store: Store) -> None:
    await make(store, keep_s=60.0).put("k", ENTRY)
    left_ms = await store.ask(lambda client: client.pttl(store.key("answer", "k")))
    assert 50_000 < left_ms <= 60_000


async def test_an_entry_over_the_bound_is_not_stored_and_the_old_one_is_out_of_date(
    store: Store,
) -> None:
    await make(store).put("k", OTHER)
    small = make(store, max_entry_bytes=len(ENTRY.body) - 1)
    await small.put("k", ENTRY)
    assert await small.get("k") is None


@pytest.mark.parametrize("damage", [b"", b"calotyp1", b"\xff" * 100])
async def test_a_damaged_entry_is_a_miss_and_is_deleted(store: Store, damage: bytes) -> None:
    cache, name = make(store), store.key("answer", "k")
    await cache.put("k", ENTRY)
    await store.ask(lambda client: client.hset(name, "record", damage))
    assert await cache.get("k") is None
    assert not await store.ask(lambda client: client.exists(name))


async def test_an_entry_of_another_key_is_a_miss(store: Store) -> None:
    await make(store).put("k", ENTRY)
    names = store.key("answer", "k"), store.key("answer", "l")
    await store.ask(lambda client: client.rename(*names))
    assert await make(store).get("l") is None


async def test_without_the_store_everything_is_a_miss(
    redis_server: RedisServer, store: Store
) -> None:
    cache = make(store)
    await cache.put("k", ENTRY)
    redis_server.kill()
    assert await cache.get("k") is None
    assert await cache.etag("k") is None
    await cache.put("k", ENTRY)
    await cache.renew("k", ENTRY)


async def test_an_answer_in_memory_is_given_until_another_server_stores_another(
    store: Store,
) -> None:
    clock = Clock()
    shared = make(store)
    rechecked = RecheckedCache(MemoryCache(100_000), shared, clock=clock)
    mine = TieredCache(rechecked, shared)
    await mine.put("k", ENTRY)
    await mine.settle()
    await make(store).put("k", OTHER)
    assert await mine.get("k") == ENTRY
    clock.now_s += TRUST_S
    assert await mine.get("k") == OTHER
    await make(store).put("k", ENTRY)
    assert await mine.get("k") == OTHER, "it was looked at a moment ago"
    clock.now_s += TRUST_S
    assert await mine.get("k") == ENTRY


async def test_an_answer_in_memory_outlives_the_shared_one_and_the_store(
    redis_server: RedisServer, store: Store
) -> None:
    clock = Clock()
    rechecked = RecheckedCache(MemoryCache(100_000), make(store), clock=clock)
    assert await rechecked.get("k") is None
    await rechecked.put("k", ENTRY)
    clock.now_s += TRUST_S
    assert await rechecked.get("k") == ENTRY
    redis_server.kill()
    clock.now_s += TRUST_S
    assert await rechecked.get("k") == ENTRY


async def test_an_answer_made_anew_takes_the_place_of_what_others_stored(store: Store) -> None:
    shared = make(store)
    mine = TieredCache(MemoryCache(100_000), shared)
    await mine.put("k", ENTRY)
    await mine.settle()
    await make(store).put("k", OTHER)
    await mine.put("k", ENTRY)
    await mine.settle()
    assert await shared.get("k") == ENTRY
