"""Where answers are kept, and who makes each of them: a part of ``assembly``."""

from calotype.cache.disk import DiskCache
from calotype.cache.flight import Flights, SingleFlight
from calotype.cache.memory import MemoryCache, NullCache, ResponseCache
from calotype.cache.shared import RecheckedCache, SharedCache
from calotype.cache.shared_flight import Made, SharedFlights
from calotype.cache.tiered import TieredCache
from calotype.settings import Settings
from calotype.store.client import Store


def open_store(settings: Settings) -> Store | None:
    """Return what this server shares with others, if the settings name it.

    Raises:
        InvalidSettingError: they name it wrongly.
        MissingExtraError: the package for it isn't installed.
    """
    if not settings.store_url:
        return None
    return Store(settings.store_url, timeout_s=settings.store_timeout_s)


def make_cache(settings: Settings, store: Store | None) -> ResponseCache:
    """Choose where answers are kept: in memory first, then in the store, or else on the disk."""
    memory = (
        MemoryCache(settings.cache_memory_bytes) if settings.cache_memory_bytes else NullCache()
    )
    if store is not None:
        shared = SharedCache(
            store, keep_s=settings.store_answer_s, max_entry_bytes=settings.store_entry_bytes
        )
        return TieredCache(RecheckedCache(memory, shared), shared)
    if not settings.cache_disk_bytes:
        return memory
    return TieredCache(
        memory, DiskCache(settings.cache_path / "answers", settings.cache_disk_bytes)
    )


def make_flights(cache: ResponseCache, store: Store | None) -> Flights[Made]:
    """Choose among whom identical work is done once: the callers of a server, or of all servers."""
    if store is None or not isinstance(cache, TieredCache):
        return SingleFlight()
    return SharedFlights(SingleFlight(), store, cache)


async def settle(cache: ResponseCache, flights: Flights[Made]) -> None:
    """Wait for answers on their way to the disk or the store, and for leases to be given back."""
    if isinstance(flights, SharedFlights):
        await flights.settle()
    if isinstance(cache, TieredCache):
        await cache.settle()
