"""Clients that keep a server as busy as they can."""

import asyncio
import time

from http1 import Answer, Connection

WARM_UP_S = 0.5


async def ask_once(port: int, request: bytes) -> Answer:
    """Return the answer to a single request.

    Raises:
        LostError: there is none.
    """
    connection = await Connection.open(port)
    try:
        return await connection.ask(request)
    finally:
        connection.close()


async def throughput(port: int, request: bytes, clients: int, seconds: float) -> float:
    """Return the answers a second to clients of one connection each, which never pause.

    Raises:
        LostError: a connection ended.
        RuntimeError: an answer wasn't 200.
    """
    connections = [await Connection.open(port) for _ in range(clients)]
    counts = [0] * clients

    async def visit(number: int) -> None:
        while True:
            answer = await connections[number].ask(request)
            if answer.status != 200:
                raise RuntimeError(f"{answer.head}\n{answer.body[:200]!r}")
            counts[number] += 1

    visits = asyncio.gather(*(visit(number) for number in range(clients)))
    await asyncio.wait((visits,), timeout=WARM_UP_S)  # the first answers are the slow ones
    before, started_s = sum(counts), time.perf_counter()
    await asyncio.wait((visits,), timeout=seconds)
    rate = (sum(counts) - before) / (time.perf_counter() - started_s)
    failed = visits.done()
    visits.cancel()
    await asyncio.gather(visits, return_exceptions=True)
    for connection in connections:
        connection.close()
    if failed:
        visits.result()
    return rate
