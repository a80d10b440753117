"""Clients that keep a server as busy as they can, and clients that come when they like.

They run in one process, and take their part of the machine; it is the same for every server.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from http1 import Answer, Connection, Pool

WARM_UP_S = 0.25
"""The first answers of a turn are the slow ones."""
GIVE_UP_S = 30.0
"""A server that takes longer than that beyond the turn has lost a request."""
now_s = time.perf_counter
"""The clock of uvloop counts whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients found in one turn."""

    seconds: float
    """From the end of the warm-up to the last answer."""
    latencies_s: tuple[float, ...]
    """Of the answers that came in that time."""
    answers: int
    """All of them, those of the warm-up included."""
    late_s: tuple[float, ...] = ()
    """How much later than planned the requests left."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.seconds


async def ask_once(port: int, request: bytes, timeout_s: float = GIVE_UP_S) -> Answer:
    """Return the answer to a single request.

    Raises:
        LostError: there is none.
        TimeoutError: there is none so far.
    """
    connection = await Connection.open(port)
    try:
        async with asyncio.timeout(timeout_s):
            return await connection.ask(request)
    finally:
        connection.close()


async def closed_loop(
    port: int, request: bytes, clients: int, seconds: float, warm_up_s: float = WARM_UP_S
) -> Load:
    """Ask as clients of one connection each, which never pause.

    Each asks once at least, and gets its last answer: nothing is left for the next one's turn.

    Raises:
        LostError: a connection ended.
        TimeoutError: an answer didn't come.
        RuntimeError: an answer wasn't 200.
    """
    connections = [await Connection.open(port) for _ in range(clients)]
    begin_s = now_s() + warm_up_s
    end_s = begin_s + seconds

    async def visit(connection: Connection) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        while not found or found[-1][1] < end_s:
            asked_s = now_s()
            _check(await connection.ask(request))
            found.append((asked_s, now_s()))
        return found

    try:
        async with asyncio.timeout(warm_up_s + seconds + GIVE_UP_S):
            visits = await asyncio.gather(*map(visit, connections))
    finally:
        for connection in connections:
            connection.close()
    every = [one for found in visits for one in found]
    counted = tuple(came_s - asked_s for asked_s, came_s in every if came_s >= begin_s)
    last_s = max(came_s for _, came_s in every)
    return Load(last_s - begin_s, counted, len(every))


async def open_loop(port: int, request: bytes, plan: Sequence[float]) -> Load:
    """Ask at planned moments, whether or not earlier requests were answered, as strangers do.

    A latency counts from the planned moment: what waits behind a slow answer is slow, too.

    Args:
        port: of the server.
        request: that all send.
        plan: seconds after the start.

    Raises:
        LostError: a connection ended.
        TimeoutError: an answer didn't come.
        RuntimeError: an answer wasn't 200.
    """
    pool, start_s = Pool(port), now_s()
    late_s: list[float] = []
    under_way: list[asyncio.Task[float]] = []

    async def visit(planned_s: float) -> float:
        _check(await pool.ask(request, GIVE_UP_S))
        return now_s() - planned_s

    try:
        for at_s in plan:
            await asyncio.sleep(max(0.0, start_s + at_s - now_s()))
            late_s.append(now_s() - start_s - at_s)
            under_way.append(asyncio.create_task(visit(start_s + at_s)))
        found = tuple(await asyncio.gather(*under_way))
    finally:
        pool.close()
    return Load(now_s() - start_s, found, len(found), tuple(late_s))


def schedule(seconds: float, rate: float, seed: int = 1) -> list[float]:
    """Return the moments of independent requests: a Poisson process."""
    chance, at_s, plan = random.Random(seed), 0.0, []  # noqa: S311
    while (at_s := at_s + chance.expovariate(rate)) < seconds:
        plan.append(at_s)
    return plan


def _check(answer: Answer) -> None:
    if answer.status != 200:
        raise RuntimeError(f"{answer.head}\n{answer.body[:200]!r}")
