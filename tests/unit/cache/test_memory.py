import asyncio
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from calotype.cache.memory import OVERHEAD_BYTES, Entry, MemoryCache, NullCache

KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.tuples(st.just("get"), KEYS, st.just(0))
    | st.tuples(st.just("put"), KEYS, st.integers(min_value=0, max_value=4000)),
    max_size=40,
)


def entry(size: int = 10, etag: str = "e") -> Entry:
    return Entry(body=b"x" * size, format="png", etag=etag, seed=None)


async def test_null_cache_keeps_nothing() -> None:
    cache = NullCache()
    await cache.put("k", entry())
    assert await cache.get("k") is None


async def test_gives_back_what_was_put() -> None:
    cache = MemoryCache(10_000)
    stored = Entry(body=b"b", format="webp", etag="e", seed=3, notes=("n",))
    await cache.put("k", stored)
    assert await cache.get("k") is stored
    assert await cache.get("other") is None


async def test_a_hit_saves_an_entry_from_eviction() -> None:
    cache = MemoryCache(2 * entry().size_bytes)
    await cache.put("a", entry())
    await cache.put("b", entry())
    await cache.get("a")
    await cache.put("c", entry())
    assert await cache.get("a") is not None
    assert await cache.get("b") is None


async def test_an_entry_over_the_bound_is_not_stored_and_drops_the_old_one() -> None:
    cache = MemoryCache(1000)
    await cache.put("k", entry())
    await cache.put("k", entry(1001))
    assert await cache.get("k") is None
    assert cache.used_bytes == 0


async def test_putting_twice_counts_once() -> None:
    cache = MemoryCache(10_000)
    await cache.put("k", entry(100))
    await cache.put("k", entry(200))
    assert cache.used_bytes == entry(200).size_bytes
    assert len(cache) == 1


def test_the_size_counts_every_text() -> None:
    plain = Entry(body=b"", format="png", etag="", seed=None)
    full = Entry(body=b"x" * 50, format="png", etag="", seed=None, notes=("z",))
    assert plain.size_bytes >= OVERHEAD_BYTES
    assert full.size_bytes >= plain.size_bytes + 51


@given(steps=STEPS, max_bytes=st.integers(min_value=0, max_value=9000))
def test_behaves_as_the_plainest_lru_model(
    steps: list[tuple[str, str, int]], max_bytes: int
) -> None:
    async def play() -> None:
        cache = MemoryCache(max_bytes)
        model: OrderedDict[str, Entry] = OrderedDict()
        for number, (step, key, size) in enumerate(steps):
            if step == "put":
                new = entry(size, etag=str(number))
                await cache.put(key, new)
                model.pop(key, None)
                if new.size_bytes <= max_bytes:
                    model[key] = new
                while sum(e.size_bytes for e in model.values()) > max_bytes:
                    model.popitem(last=False)
            else:
                assert await cache.get(key) is model.get(key)
                if key in model:
                    model.move_to_end(key)
            assert cache.used_bytes == sum(e.size_bytes for e in model.values()) <= max_bytes
            assert len(cache) == len(model)

    asyncio.run(play())
