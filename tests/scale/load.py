"""Load on servers while parts of them die: many clients, and each answer is looked at.

Every request has a picture and an id of its own, so its one right answer is known: an answer that
is wrong, another's, or sent twice is found out. A client whose connection breaks before it has an
answer asks again at the next URL, as any HTTP client behind a load balancer does; that is counted,
and so is everything else that isn't a right answer.
"""

import asyncio
import contextlib
import io
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from scale.line import Answer, BrokenError, Line

SIDE = 16
TIMEOUT_S = 60.0
PAUSE_S = 0.05
"""Between two tries, so that a server that is gone gets time to be taken out of its balancer."""
EXAMPLES = 20

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class End(Protocol):
    """What says that it is time to end: an event of asyncio, or of threads."""

    def is_set(self) -> bool:
        """Tell whether it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A fake model, and what its answer is to its input."""

    name: str
    inverts: bool = False
    scale: int = 1

    def right(self, pixels: Pixels) -> Pixels:
        """Return the one right answer."""
        larger = pixels.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        return 255 - larger if self.inverts else larger


@dataclass(slots=True)
class Report:
    """What became of every request that was begun."""

    sent: int = 0
    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """Answers with the status 200 that are not what was asked for, by how."""
    failed: Counter[str] = field(default_factory=Counter)
    """By status and type of error, or ``timeout``."""
    unreached: int = 0
    """Requests whose connection broke on every try."""
    broken: int = 0
    """Connections that broke before an answer; each was tried again, and counts nowhere else."""
    cut: int = 0
    """Those of them that broke amid the answer."""
    cache: Counter[str] = field(default_factory=Counter)
    """Right answers by ``x-cache``."""
    computed: Counter[object] = field(default_factory=Counter)
    """How often each distinct picture of each model was computed."""
    latencies_s: list[float] = field(default_factory=list)
    """Of right answers, from the first try on."""
    examples: list[str] = field(default_factory=list)
    """The first that went wrong."""

    @property
    def is_perfect(self) -> bool:
        """Whether every request got one right answer."""
        return 0 < self.sent == self.right

    @property
    def recomputed(self) -> int:
        """Answers that were computed though they had been before."""
        return sum(times - 1 for times in self.computed.values() if times)

    @property
    def median_s(self) -> float:
        return statistics.median(self.latencies_s) if self.latencies_s else 0.0

    @property
    def p99_s(self) -> float:
        return float(np.quantile(self.latencies_s, 0.99)) if self.latencies_s else 0.0

    def note(self, example: str) -> None:
        """Remember what went wrong, up to a number."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def __str__(self) -> str:
        lines = [
            f"sent {self.sent}, right {self.right}, wrong {dict(self.wrong)},"
            f" failed {dict(self.failed)}, unreached {self.unreached}",
            f"connections broken and tried again {self.broken}, of them amid the answer {self.cut}",
            f"cache {dict(self.cache)}, recomputed {self.recomputed}",
            f"median {self.median_s * 1e3:.1f} ms, p99 {self.p99_s * 1e3:.1f} ms",
            *self.examples,
        ]
        return "\n".join(lines)


class Client:
    """One client: sends a request, waits for its answer, and sends the next."""

    def __init__(self, number: int, urls: Sequence[str], report: Report, timeout_s: float) -> None:
        self.number, self._report, self._timeout_s = number, report, timeout_s
        self._urls = [urls[(number + i) % len(urls)] for i in range(len(urls))]
        self._lines: dict[str, Line] = {}

    async def ask(self, model: Model, key: tuple[int, ...], request_id: str) -> None:
        """Send a picture until there is an answer, and judge that."""
        pixels = np.random.default_rng(key).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        self._report.sent += 1
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._answer(f"/models/{model.name}", file_of(pixels), request_id)
        except TimeoutError:
            self._report.failed["timeout"] += 1
            self._report.note(f"{request_id}: no answer in {self._timeout_s} s")
            self.close()  # what may still come on these lines is an answer to no request
            return
        if answer is None:
            self._report.unreached += 1
            self._report.note(f"{request_id}: no server could be reached")
        elif fault := fault_of(answer, model.right(pixels), request_id):
            self.close()  # the next answer on it may be as wrong
            (self._report.wrong if answer.status == 200 else self._report.failed)[fault] += 1
            self._report.note(f"{request_id}: {fault}: {answer.body[:200]!r}")
        else:
            self._report.right += 1
            self._report.latencies_s.append(time.monotonic() - started_s)
            status = answer.headers.get("x-cache", "")
            self._report.cache[status] += 1
            self._report.computed[model.name, key] += status == "miss"

    async def _answer(self, path: str, body: bytes, request_id: str) -> Answer | None:
        """Ask one URL after the other, twice around, until one answers."""
        for url in self._urls * 2:
            try:
                line = self._lines.get(url)
                if line is None or not line.is_open:
                    line = self._lines[url] = await Line.to(url)
                return await line.post(path, body, {"x-request-id": request_id})
            except BrokenError as error:
                self._report.broken += 1
                self._report.cut += error.amid
                if (gone := self._lines.pop(url, None)) is not None:
                    gone.close()
                await asyncio.sleep(PAUSE_S)
        return None

    async def end(self) -> None:
        """End all connections, once it is known that nothing more comes."""
        for url, line in self._lines.items():
            if line.is_open and (stray := await line.stray()):
                self._report.wrong["doubled"] += 1
                self._report.note(f"{url}: {stray[:200]!r} after the last answer")
        self.close()

    def close(self) -> None:
        """End all connections at once."""
        while self._lines:
            self._lines.popitem()[1].close()


def fault_of(answer: Answer, right: Pixels, request_id: str) -> str:
    """Tell what is wrong with an answer; empty if nothing is."""
    if answer.status != 200:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return f"{answer.status} {json.loads(answer.body)['error_type']}"
        return str(answer.status)
    if answer.headers.get("x-request-id") != request_id:
        return "another's"
    if answer.rest:
        return "doubled"
    try:
        found = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB"))
    except OSError:
        return "no picture"
    return "" if np.array_equal(found, right) else "wrong pixels"


def file_of(pixels: Pixels) -> bytes:
    """Write a PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


async def load(
    urls: Sequence[str],
    models: Sequence[Model],
    *,
    clients: int = 8,
    rounds: int | None = None,
    until: End | None = None,
    twins_every: int = 4,
    timeout_s: float = TIMEOUT_S,
    seed: int = 0,
) -> Report:
    """Put load on servers, and report on it.

    Client c begins with URL c, and goes round the models. In every ``twins_every``-th round all
    clients send the same picture to the same model, each to its own URL.

    Args:
        urls: of servers that answer the same.
        models: those that they all have.
        clients: how many send at the same time.
        rounds: how many requests each client sends; None: as many as it can.
        until: ends it, after the requests that are on their way.
        twins_every: 0: all pictures are different.
        timeout_s: of a request, all its tries together.
        seed: of the pictures; with another one no answer is in a cache yet.
    """
    report, ended = Report(), until or threading.Event()

    async def work(client: Client) -> None:
        turn = 0
        while turn != rounds and not ended.is_set():
            is_twin = twins_every > 0 and turn % twins_every == 0
            model = models[(turn if is_twin else turn + client.number) % len(models)]
            key = (seed, 0, turn) if is_twin else (seed, 1, client.number, turn)
            await client.ask(model, key, f"load-{seed}-{client.number}-{turn}")
            turn += 1
        await client.end()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(work(Client(number, urls, report, timeout_s)))
    return report
