"""Load on a cluster from a thread of its own, while a test does something to the cluster."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from scale.load import Model, Report, load


@dataclass(slots=True)
class Pressure:
    """Clients at work."""

    report: Report = field(default_factory=Report)
    """What came of it; whole once they have ended."""
    told: list[str] = field(default_factory=list)
    """What was done to the cluster meanwhile."""

    def __str__(self) -> str:
        return "\n".join([*self.told, str(self.report)])


@contextlib.contextmanager
def under_load(
    urls: Sequence[str],
    models: Sequence[Model],
    *,
    clients: int = 8,
    seed: int = 0,
    twins_every: int = 4,
) -> Iterator[Pressure]:
    """Keep clients at work for the length of a block, and show what came of it."""
    ended, pressure, done = threading.Event(), Pressure(), Future[Report]()

    def work() -> None:
        try:
            loading = load(
                urls, models, clients=clients, until=ended, twins_every=twins_every, seed=seed
            )
            done.set_result(asyncio.run(loading))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield pressure
    finally:
        ended.set()
        thread.join()
        pressure.report = done.result()
        sys.stderr.write(f"{pressure}\n")
