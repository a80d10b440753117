"""Three times as many requests as the server can do: who is served, and how soon the rest know.

    .venv/bin/python benchmarks/overload.py [--seconds 60] [--factor 3]

The model sleeps for a known time and pictures differ in size, so that none share a batch. Requests
come at random moments, whether or not earlier ones were answered, as strangers do. Beside them
somebody asks for /health ten times a second.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import uvloop

import bounds
import pictures
import report
from http1 import Answer, Connection, LostError, Pool, get, post
from load import schedule
from measure import percentile
from server import serving

SERVICE_S = 0.05
STEPS = 5
QUEUE_SIZE = 16
MOST_REFUSAL_MS = MOST_HEALTH_MS = 50.0
PROBE_EVERY_S = 0.1
GIVE_UP_S = 30.0
SIDES_PX = range(56, 73)
CATALOG = f"""
[[model]]
id = "bench/slow"
backend = "fake"
[model.options]
steps = {STEPS}
step_s = {SERVICE_S / STEPS}
"""
now_s = time.perf_counter
"""The clock of uvloop counts whole milliseconds."""
HEADERS = {"accept": "image/png", "x-use-cache": "false", "x-wait-for-model": "true"}


@dataclass(slots=True)
class Record:
    """What happened; times are in milliseconds."""

    sent: int = 0
    answered: int = 0
    strangers: int = 0
    """Answers with another request's id."""
    lost: list[str] = field(default_factory=list)
    surplus_bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    served_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    health_ms: list[float] = field(default_factory=list)
    ill: int = 0
    late_ms: list[float] = field(default_factory=list)
    """How much later than planned the client sent."""

    def note(self, answer: Answer, name: str, took_ms: float) -> None:
        """Count an answer."""
        self.answered += 1
        self.statuses[answer.status] += 1
        self.strangers += answer.headers.get("x-request-id") != name
        if answer.status == 200:
            self.served_ms.append(took_ms)
        elif answer.status == 429:
            self.refused_ms.append(took_ms)
            delay = answer.headers.get("retry-after", "")
            self.without_retry_after += not (delay.isdigit() and int(delay) > 0)


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=3.0, help="of what the server can do")
    told = parser.parse_args()
    rate = told.factor / SERVICE_S
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), CATALOG, "--queue-size", str(QUEUE_SIZE)) as server,
    ):
        record = uvloop.run(overload(server.port, told.seconds, rate))
    report.publish(
        report.Report(
            name="overload",
            method=f"A model that takes {SERVICE_S * 1e3:.0f} ms and so can do "
            f"{1 / SERVICE_S:.0f} requests/s gets {rate:.0f} at random moments for "
            f"{told.seconds:.0f} s, with a queue of {QUEUE_SIZE}. Beside them somebody asks for "
            f"/health {1 / PROBE_EVERY_S:.0f} times a second.",
            aims=judge(record),
            versions=report.versions("calotype"),
        )
    )


async def overload(port: int, seconds: float, rate: float) -> Record:
    """Send requests at random moments; return when all are answered."""
    record, pool = Record(), Pool(port)
    plan = schedule(seconds, rate)
    uploads = prepare(len(plan))
    for name, request in list(uploads.items())[:3]:
        await one(pool, name, request, Record())  # the model is loaded now
    probe = asyncio.create_task(watch_health(port, record))
    start_s, under_way = now_s(), []
    for at_s, (name, request) in zip(plan, uploads.items(), strict=True):
        await asyncio.sleep(max(0.0, start_s + at_s - now_s()))
        record.late_ms.append((now_s() - start_s - at_s) * 1e3)
        under_way.append(asyncio.create_task(one(pool, name, request, record)))
    await asyncio.gather(*under_way)
    probe.cancel()
    await asyncio.wait((probe,))
    await asyncio.sleep(PROBE_EVERY_S)  # a second answer would come now at the latest
    record.surplus_bytes = pool.surplus_bytes
    pool.close()
    if not probe.cancelled():
        probe.result()
    return record


def prepare(count: int) -> dict[str, bytes]:
    """Write requests by id: no two pictures are the same, nor are sizes any time soon."""
    sizes = list(product(SIDES_PX, SIDES_PX))
    random.Random(2).shuffle(sizes)  # noqa: S311
    found = {}
    for number in range(count):
        name = f"overload-{number}"
        upload = pictures.noise(*sizes[number % len(sizes)], seed=number)
        found[name] = post("/models/bench/slow", upload, {**HEADERS, "x-request-id": name})
    return found


async def one(pool: Pool, name: str, request: bytes, record: Record) -> None:
    """Send a request and note what becomes of it."""
    started_s = now_s()
    record.sent += 1
    try:
        answer = await pool.ask(request, GIVE_UP_S)
    except (LostError, OSError) as error:  # of which a timeout is one
        record.lost.append(f"{name}: {error!r}")
        return
    record.note(answer, name, (now_s() - started_s) * 1e3)


async def watch_health(port: int, record: Record) -> None:
    """Ask for /health again and again, until cancelled."""
    connection = await Connection.open(port)
    try:
        while True:
            started_s = now_s()
            answer = await asyncio.wait_for(connection.ask(get("/health")), GIVE_UP_S)
            record.health_ms.append((now_s() - started_s) * 1e3)
            record.ill += answer.status != 200
            await asyncio.sleep(max(0.0, started_s + PROBE_EVERY_S - now_s()))
    finally:
        connection.close()


def judge(record: Record) -> list[bounds.Bound]:
    """Hold what happened against what is promised."""
    for line in record.lost[:5]:
        print(f"lost: {line}")
    full_ms = QUEUE_SIZE * SERVICE_S * 1e3
    served, refused, health = record.served_ms, record.refused_ms, record.health_ms
    others = {status: n for status, n in record.statuses.items() if status not in (200, 429)}
    return [
        bounds.note("requests", record.sent),
        bounds.note("served (200)", len(served)),
        bounds.note("refused (429)", len(refused)),
        bounds.exactly("other statuses", others or "none", "none"),
        bounds.exactly("requests without an answer", record.sent - record.answered, 0),
        bounds.exactly("answers of another request", record.strangers, 0),
        bounds.exactly("bytes that nobody asked for", record.surplus_bytes, 0),
        bounds.note("wait in a full queue, expected", full_ms, "ms"),
        bounds.note("served, p50", percentile(served, 50), "ms"),
        bounds.at_most("served, p99", percentile(served, 99), 2 * full_ms, "ms"),
        bounds.at_most("refused, p99", percentile(refused, 99), MOST_REFUSAL_MS, "ms"),
        bounds.exactly("refused without Retry-After", record.without_retry_after, 0),
        bounds.at_most("/health, p99", percentile(health, 99), MOST_HEALTH_MS, "ms"),
        bounds.note("/health, slowest", max(health, default=float("nan")), "ms"),
        bounds.exactly("/health, other than 200", record.ill, 0),
        bounds.note("client behind its plan, p99", percentile(record.late_ms, 99), "ms"),
    ]


if __name__ == "__main__":
    main()
