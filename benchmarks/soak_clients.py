"""The clients of the soak test: they ask, err, leave, come back later, and look at each pixel."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import pictures
from http1 import Answer, Connection, LostError, Pool
from soak_cases import CACHED, GIVE_UP_S, Bad, Case

now_s = time.perf_counter
"""The clock of uvloop counts whole milliseconds."""
BAD, LEAVING = 0.01, 0.05
"""Shares of requests that are wrong, and whose client leaves."""
LONGEST_STAY_S = 0.25
MAX_LOST = 50
"""With so many unanswered requests the server is gone, and there is nothing left to learn."""
MAX_TRIES = 60
"""Of a request that is told to come back later."""


@dataclass(slots=True)
class Failure:
    """An answer 500: when its request was under way."""

    began_s: float
    ended_s: float
    text: str


@dataclass(slots=True)
class Record:
    """What happened to all requests."""

    sent: int = 0
    answered: int = 0
    left: int = 0
    """Clients that did not wait for their answer."""
    lost: list[str] = field(default_factory=list)
    """Requests without an answer."""
    strangers: list[str] = field(default_factory=list)
    """Answers with the id of another request."""
    wrong: list[str] = field(default_factory=list)
    """Answers with another picture than the right one."""
    unexpected: list[str] = field(default_factory=list)
    """Answers of a status that may not be."""
    failures: list[Failure] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)
    batched: int = 0
    """Answers that were computed in company."""
    bad: int = 0
    took_s: list[float] = field(default_factory=list)
    """Of each answer."""
    surplus_bytes: int = 0


class Clients:
    """Several clients at once.

    Args:
        port: of the server.
        right: the cases with their right answers.
        bad: the wrong requests.
        seed: of all that is drawn.
    """

    def __init__(
        self, port: int, right: Mapping[Case, NDArray[np.uint8]], bad: Sequence[Bad], seed: int
    ) -> None:
        self._port, self._right, self._bad, self._seed = port, right, bad, seed
        self._cases = tuple(right)
        self._pool = Pool(port)
        self._numbers = itertools.count()
        self.record = Record()

    async def run(self, clients: int, until_s: float) -> None:
        """Send requests until that moment; return when the last is answered."""
        await asyncio.gather(*(self._visit(number, until_s) for number in range(clients)))

    async def close(self) -> None:
        """Wait for what nobody asked for, and hang up."""
        await asyncio.sleep(0.5)
        self.record.surplus_bytes = self._pool.surplus_bytes
        self._pool.close()

    async def _visit(self, number: int, until_s: float) -> None:
        """Be one client."""
        chance = random.Random(f"{self._seed} {number}")  # noqa: S311
        while now_s() < until_s and len(self.record.lost) < MAX_LOST:
            luck = chance.random()
            if luck < BAD:
                await self._err(chance.choice(self._bad))
            elif luck < BAD + LEAVING:
                await self._leave(chance.choice(self._cases), chance.uniform(0, LONGEST_STAY_S))
            else:
                await self._use(chance.choice(self._cases), use_cache=chance.random() < CACHED)

    async def _use(self, case: Case, *, use_cache: bool) -> None:
        """Send a good request, and look at the picture."""
        answer, began_s = await self._ask_until_done(case, use_cache=use_cache)
        if answer is not None:
            await self._look(case, answer, began_s)

    async def _look(self, case: Case, answer: Answer, began_s: float) -> None:
        """Judge an answer to a good request."""
        text = f"{case.model}: {answer.status} {answer.body[:200]!r}"
        if answer.status == 500:
            self.record.failures.append(Failure(began_s, now_s(), text))
        elif answer.status != 200:
            self.record.unexpected.append(text)
        else:
            self.record.caches[answer.headers.get("x-cache", "none")] += 1
            self.record.batched += answer.headers.get("x-batch-size") not in ("1", None)
            pixels = await asyncio.to_thread(pictures.pixels_of, answer.body)
            if not np.array_equal(pixels, self._right[case]):
                self.record.wrong.append(_difference(case, answer, pixels, self._right[case]))

    async def _err(self, bad: Bad) -> None:
        """Send a wrong request; a busy server may not have looked at it yet."""
        self.record.bad += 1
        answer, _ = await self._ask_until_done(bad.case, use_cache=False)
        if answer is not None and answer.status != bad.status:
            self.record.unexpected.append(
                f"{answer.status} instead of {bad.status}: {answer.body[:200]!r}"
            )

    async def _leave(self, case: Case, stay_s: float) -> None:
        """Send a good request, and close the connection, most likely before the answer is there."""
        self.record.left += 1
        try:
            connection = await Connection.open(self._port)
        except OSError as error:
            self.record.lost.append(f"a client that would have left: {error!r}")
            return
        answer = connection.ask(case.request(f"soak-{next(self._numbers)}"))
        await asyncio.wait((answer,), timeout=stay_s)
        connection.close()
        await asyncio.wait((answer,))
        answer.exception()  # nobody waits for it

    async def _ask_until_done(self, case: Case, *, use_cache: bool) -> tuple[Answer | None, float]:
        """Send a request, again when told to; return the last answer, and when it was asked for."""
        for _ in range(MAX_TRIES):
            began_s = now_s()
            answer = await self._ask(case, use_cache=use_cache)
            if answer is None:
                return None, began_s
            self.record.took_s.append(now_s() - began_s)
            if answer.status != 429:
                return answer, began_s
            delay = answer.headers.get("retry-after", "")
            if not delay.isdigit():
                self.record.unexpected.append(f"429 without Retry-After: {answer.body[:200]!r}")
                return None, began_s
            await asyncio.sleep(int(delay))
        self.record.unexpected.append(f"{case.model}: 429 {MAX_TRIES} times in a row")
        return None, now_s()

    async def _ask(self, case: Case, *, use_cache: bool) -> Answer | None:
        """Send one request; return its answer, or None if there was none or another's."""
        record, name = self.record, f"soak-{next(self._numbers)}"
        record.sent += 1
        try:
            answer = await self._pool.ask(case.request(name, use_cache=use_cache), GIVE_UP_S)
        except (LostError, OSError) as error:  # of which a timeout is one
            record.lost.append(f"{name}, {case.model}: {error!r}")
            return None
        record.answered += 1
        record.statuses[answer.status] += 1
        if answer.headers.get("x-request-id") != name:
            record.strangers.append(f"{name} got the answer of {answer.headers}")
            return None
        return answer


def _difference(
    case: Case, answer: Answer, found: NDArray[np.uint8], right: NDArray[np.uint8]
) -> str:
    """Say how far a picture is from the right one."""
    batch, cache = answer.headers.get("x-batch-size"), answer.headers.get("x-cache")
    where = f"{case.model}, batch of {batch}, cache {cache}"
    if found.shape != right.shape:
        return f"{where}: shape {found.shape} instead of {right.shape}"
    apart = np.abs(found.astype(int) - right)
    return f"{where}: {np.mean(apart > 0):.1%} of values differ, by at most {apart.max()}"
