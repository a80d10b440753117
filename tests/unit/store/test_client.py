"""The store, with a real server that stops, hangs and comes back."""

import asyncio
import contextlib
import logging
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
import uvloop

from api.server import until
from calotype.errors import InvalidSettingError, MissingExtraError, StoreUnavailableError
from calotype.observe.metrics import REGISTRY
from calotype.store.client import Store
from redis_server import RedisServer

TIMEOUT_S = 0.3
"""Of a store that hangs; of the others it is long, for the machine may be busy."""


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(redis_server.url, timeout_s=10, rest_s=0.02)
    yield store
    await store.close()


async def back(store: Store) -> None:
    async def true() -> bool:
        return store.is_up

    await until(true)


async def ping(store: Store) -> object:
    return await store.ask(lambda client: client.ping())


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_it_keeps_what_it_is_told(store: Store) -> None:
    name = store.key("a", "b")
    assert name == "calotype:a:b"
    await store.ask(lambda client: client.set(name, b"\0\xff"))
    assert await store.ask(lambda client: client.get(name)) == b"\0\xff"
    assert store.is_up
    assert sample("calotype_store_up") == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://127.0.0.1",
        "redis://:secret@127.0.0.1:port/0",
        "redis://127.0.0.1?socket_timeout=secret",
        "redis://127.0.0.1?secret=1",
        # These were tracebacks.
        "rediss://127.0.0.1?ssl_cert_reqs=secret",
        "redis://127.0.0.1?protocol=9",
        "redis://127.0.0.1?maint_notifications_config=secret",
    ],
)
def test_a_wrong_address_is_refused_with_what_is_right(url: str) -> None:
    with pytest.raises(InvalidSettingError, match="redis://HOST:PORT/DATABASE") as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "calotype.store.connection", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calotype\[store\]'"):
        Store("redis://127.0.0.1")


async def test_one_that_is_away_is_not_asked_and_comes_back_without_being_asked(
    redis_server: RedisServer, store: Store
) -> None:
    redis_server.stop()
    failures = sample("calotype_store_failures_total")
    with pytest.raises(StoreUnavailableError):
        await ping(store)
    assert not store.is_up
    assert sample("calotype_store_up") == 0
    assert sample("calotype_store_failures_total") == failures + 1

    async def work(client: object) -> None:
        pytest.fail("it was asked")

    with pytest.raises(StoreUnavailableError):
        await store.ask(work)
    redis_server.start()
    await back(store)
    assert sample("calotype_store_up") == 1
    assert await ping(store)


async def test_the_state_at_the_start_is_found_out(redis_server: RedisServer, store: Store) -> None:
    await store.check()
    assert store.is_up
    redis_server.kill()
    await store.check()
    assert not store.is_up


async def test_one_that_hangs_costs_one_timeout(redis_server: RedisServer) -> None:
    store = Store(redis_server.url, timeout_s=TIMEOUT_S, rest_s=0.02)
    redis_server.hang()
    began_s = time.monotonic()
    asked = await asyncio.gather(*(ping(store) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in asked] == [StoreUnavailableError] * 5
    with pytest.raises(StoreUnavailableError):
        await ping(store)
    assert time.monotonic() - began_s < 10 * TIMEOUT_S
    redis_server.resume()
    await back(store)
    await store.close()


async def test_a_connection_that_was_closed_meanwhile_fails_nothing(
    redis_server: RedisServer, store: Store
) -> None:
    await ping(store)
    redis_server.restart()
    assert await ping(store)
    assert store.is_up


class Resetting:
    """Stands between a client and a store, as a firewall that forgets connections does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line = self._listening.accept()[0]
                store = socket.create_connection(("127.0.0.1", self._port))
                self._lines += [line, store]
                for ends in ((line, store), (store, line)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def reset(self) -> None:
        """Reset what is open."""
        for line in self._lines:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.shutdown(socket.SHUT_RD)  # wakes who reads from it
            line.close()
        self._lines.clear()

    def close(self) -> None:
        self.reset()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_connection_that_was_reset_meanwhile_fails_nothing(redis_server: RedisServer) -> None:
    """On the loop that Ray has, which says of it what is none of redis-py's errors."""

    async def main() -> None:
        store = Store(f"redis://127.0.0.1:{between.port}/0", timeout_s=10)
        assert await ping(store)
        between.reset()
        await asyncio.sleep(0.1)  # nothing tells that it has come
        assert await ping(store)
        assert store.is_up
        await store.close()

    with contextlib.closing(Resetting(redis_server.port)) as between:
        uvloop.run(main())


async def test_many_that_wait_are_no_absence(store: Store) -> None:
    """Each holds a connection; the library's own limit is 100."""

    async def wait() -> object:
        return await store.ask(lambda client: client.blpop(["none"], timeout=1))

    waiting = [asyncio.create_task(wait()) for _ in range(150)]
    await asyncio.sleep(0.3)
    assert store.is_up
    assert await ping(store)
    assert await asyncio.gather(*waiting) == [None] * 150


async def test_a_refusal_is_no_absence(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    name = store.key("text")
    await store.ask(lambda client: client.set(name, "x"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="refuses"):
                await store.ask(lambda client: client.hget(name, "field"))
    assert store.is_up
    assert caplog.text.count("WRONGTYPE") == 1


async def test_a_mistake_of_ours_is_not_hidden(store: Store) -> None:
    async def work(client: object) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        await store.ask(work)
    assert store.is_up


async def test_what_is_published_is_heard(store: Store) -> None:
    async with store.listening("news") as news:
        await news(10)  # returns once the channel is heard
        waiting = asyncio.ensure_future(news(10))
        await store.ask(lambda client: client.publish("news", "x"))
        await asyncio.wait_for(waiting, 5)
        began_s = time.monotonic()
        await news(0.05)
        assert time.monotonic() - began_s < 5


async def test_nothing_is_heard_of_one_that_dies(redis_server: RedisServer, store: Store) -> None:
    async with store.listening("news") as news:
        await news(10)
        waiting = asyncio.ensure_future(news(10))
        await asyncio.sleep(0)
        redis_server.kill()
        with pytest.raises(StoreUnavailableError):
            await waiting
    with pytest.raises(StoreUnavailableError):
        async with store.listening("news"):
            pytest.fail("it can be heard")


async def test_closing_ends_the_search_for_it(redis_server: RedisServer) -> None:
    store = Store(redis_server.url, rest_s=60)
    redis_server.kill()
    await store.check()
    before = len(asyncio.all_tasks())
    await store.close()
    assert len(asyncio.all_tasks()) == before - 1


async def test_a_cancellation_that_the_client_swallows_is_heeded(store: Store) -> None:
    """It made a server that ended wait for ever."""
    begun = asyncio.Event()

    async def work(client: object) -> str:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "done all the same"

    asking = asyncio.create_task(store.ask(work))
    await begun.wait()
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()


async def test_a_closed_one_is_not_asked(store: Store) -> None:
    await ping(store)
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await ping(store)


def test_who_has_no_store_needs_no_package_for_one() -> None:
    code = "import sys, calotype.assembly; assert not [m for m in sys.modules if 'redis' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)
