"""What a cluster needs, reckoned from what one request takes."""

import math
from dataclasses import dataclass

import report

REPLICAS = (10, 100, 1000)
RUN_S = 1.0
"""What a picture keeps a replica busy."""
DAY_S = 86_400
"""How long an answer is kept, where the store has room."""
FILLED = 0.6
"""How much of a core a process may be busy with, if answers are not to wait for it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one picture on its way."""

    upload: int
    pixels: int
    """Decoded, there; the answer's are as many if the model doesn't enlarge."""
    answer: int

    @property
    def front(self) -> int:
        """What a server in front receives and sends: from proxy, replica, and to the store."""
        return self.upload + 2 * self.pixels + 2 * self.answer


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a core that a request takes."""

    proxy: float
    front: float
    replica: float
    store: float


def table(costs: Costs, sizes: Sizes) -> report.Table:
    """Reckon for clusters of more and more replicas that are all busy."""
    rows = tuple(_row(count, costs, sizes) for count in REPLICAS)
    title = (
        f"On paper: replicas that take {RUN_S:g} s a picture, all busy, every picture new; no "
        f"process more than {FILLED:.0%} of a core"
    )
    columns = (
        *("replicas", "requests/s", "servers in front", "cores of proxies"),
        *("replicas' cores beside the model", "cores of the store", "store writes, MB/s"),
        *("a server in front, MB/s", "all of the network, GB/s", "answers of a day, GB"),
    )
    return report.Table(title, columns, rows)


def _row(count: int, costs: Costs, sizes: Sizes) -> tuple[report.Cell, ...]:
    rate = count / RUN_S
    fronts = math.ceil(rate * costs.front / FILLED)
    return (
        count,
        rate,
        fronts,
        rate * costs.proxy / FILLED,
        rate * costs.replica,
        rate * costs.store / FILLED,
        rate * sizes.answer / 1e6,
        rate / fronts * sizes.front / 1e6,
        rate * (sizes.front + sizes.upload + sizes.answer) / 1e9,
        rate * sizes.answer * DAY_S / 1e9,
    )
