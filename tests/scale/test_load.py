"""The load harness finds out servers that are wrong: else nothing is proved by its silence."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h11
import numpy as np
import pytest

from api.server import pixels_of
from e2e.server import serving
from scale.load import Model, Report, file_of, load

INVERT = Model(name="invert", inverts=True)
DOUBLE = Model(name="double", scale=2)
CATALOG = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
parameters = {invert = {type = "boolean", default = true}}

[[model]]
id = "test/double"
alias = "double"
backend = "fake"
scale = 2
"""
Reply = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request to a small server, and the ways to answer it, right and wrong."""

    def __init__(
        self, head: h11.Request, body: bytes, http: h11.Connection, writer: asyncio.StreamWriter
    ) -> None:
        self.request_id = dict(head.headers)[b"x-request-id"].decode()
        self.body, self._http, self._writer = body, http, writer

    def right(self) -> bytes:
        return file_of(255 - pixels_of(self.body))

    def bytes_of(self, body: bytes, request_id: str, status: int = 200) -> bytes:
        headers = [("content-length", str(len(body))), ("x-request-id", request_id)]
        head = h11.Response(status_code=status, headers=[*headers, ("x-cache", "miss")])
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._http.send(event) or b"" for event in events)

    async def send(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, body: bytes | None = None, status: int = 200) -> None:
        await self.send(
            self.bytes_of(self.right() if body is None else body, self.request_id, status)
        )

    def drop(self) -> None:
        self._writer.close()


async def requests(
    reader: asyncio.StreamReader,
) -> AsyncIterator[tuple[h11.Connection, h11.Request, bytes]]:
    """Yield what comes on a connection; each is to be answered before the next."""
    http, body = h11.Connection(h11.SERVER), b""
    head: h11.Request | None = None
    while not isinstance(event := http.next_event(), h11.ConnectionClosed):
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            yield http, head, body
            http.start_next_cycle()
        else:
            http.receive_data(await reader.read(65_536))


@contextlib.asynccontextmanager
async def small(reply: Reply) -> AsyncIterator[str]:
    """Run a server that does with each request what the test says; yield its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Python 3.11's streams don't expect that a handler is cancelled, as it is at the end here.
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            async for http, head, body in requests(reader):
                await reply(Exchange(head, body, http, writer))
                if writer.is_closing():
                    break

    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def put_on(reply: Reply, **options: float) -> Report:
    async with small(reply) as url:
        return await load([url], [INVERT], clients=2, rounds=3, **options)  # type: ignore[arg-type]


async def test_a_right_server_is_perfect() -> None:
    report = await put_on(lambda exchange: exchange.answer())
    assert report.is_perfect
    assert (report.sent, report.right, report.broken) == (6, 6, 0)
    assert 0 < report.median_s <= report.p99_s
    # The first round is the same picture, which this server computes for each of both.
    assert report.recomputed == 1


async def test_wrong_pixels_are_wrong() -> None:
    report = await put_on(lambda exchange: exchange.answer(exchange.body))
    assert not report.is_perfect
    assert (report.right, report.wrong) == (0, {"wrong pixels": 6})


async def test_no_picture_is_wrong() -> None:
    report = await put_on(lambda exchange: exchange.answer(b"hello"))
    assert report.wrong == {"no picture": 6}


async def test_answers_that_are_mixed_up_are_wrong() -> None:
    waiting: list[Exchange] = []
    both = asyncio.Event()

    async def swap(exchange: Exchange) -> None:
        waiting.append(exchange)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        one, other = waiting if waiting[0] is exchange else reversed(waiting)
        await exchange.send(one.bytes_of(other.right(), other.request_id))

    async with small(swap) as url:
        report = await load([url], [INVERT], clients=2, rounds=1, twins_every=0)
    assert report.wrong == {"another's": 2}


@pytest.mark.parametrize("pause", [False, True])
async def test_an_answer_that_comes_twice_is_wrong(*, pause: bool) -> None:
    async def twice(exchange: Exchange) -> None:
        raw = exchange.bytes_of(exchange.right(), exchange.request_id)
        await exchange.send(raw if pause else raw * 2)
        if pause:
            await asyncio.sleep(0)  # in a packet of its own
            await exchange.send(raw)

    report = await put_on(twice)
    assert not report.is_perfect
    assert sum(report.wrong.values()) >= 2
    assert set(report.wrong) <= {"doubled", "another's"}


async def test_refusals_are_counted_by_status_and_type() -> None:
    body = json.dumps({"error": "busy", "error_type": "overloaded"}).encode()
    report = await put_on(lambda exchange: exchange.answer(body, 429))
    assert report.failed == {"429 overloaded": 6}
    assert "load-0-0-0: 429 overloaded" in str(report)
    report = await put_on(lambda exchange: exchange.answer(b"<html>", 502))
    assert report.failed == {"502": 6}


async def test_a_connection_that_breaks_is_tried_at_the_next_url() -> None:
    async def drop(exchange: Exchange) -> None:
        exchange.drop()

    async def cut(exchange: Exchange) -> None:
        await exchange.send(exchange.bytes_of(exchange.right(), exchange.request_id)[:-9])
        exchange.drop()

    async with small(drop) as bad, small(cut) as worse, small(Exchange.answer) as good:
        report = await load([bad, worse, good], [INVERT], clients=3, rounds=2)
    assert report.is_perfect
    assert report.broken > report.cut > 0


async def test_a_server_that_is_gone_is_no_answer() -> None:
    async with small(Exchange.answer) as url:
        pass
    report = await load([url], [INVERT], clients=2, rounds=1)
    assert not report.is_perfect
    assert (report.sent, report.unreached, report.broken) == (2, 2, 4)


async def test_silence_is_a_failure() -> None:
    async def silent(exchange: Exchange) -> None:
        del exchange
        await asyncio.Event().wait()

    async with small(silent) as url:
        report = await load([url], [INVERT], clients=2, rounds=1, timeout_s=0.05)
    assert report.failed == {"timeout": 2}


async def test_it_ends_when_told() -> None:
    ended = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.answer()
        ended.set()

    async with small(answer) as url:
        report = await load([url], [INVERT], clients=2, until=ended)
    assert report.is_perfect
    assert 1 <= report.sent <= 4


async def test_a_real_server_is_perfect(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CATALOG)
    options = ("--catalog-file", str(tmp_path / "models.toml"), "--default-model", "invert")
    with serving(tmp_path, *options) as server:
        report = await load([server.url], [INVERT, DOUBLE], clients=4, rounds=8)
    assert report.is_perfect, str(report)
    assert report.recomputed == 0
    assert report.cache["hit"] + report.cache["coalesced"] == 2 * 3


def test_the_right_answer_of_a_model() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert INVERT.right(pixels)[0, 0, 0] == 255
    assert DOUBLE.right(pixels).shape == (4, 4, 3)
    assert DOUBLE.right(pixels)[1, 1, 0] == 0
