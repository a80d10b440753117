"""A client of a cluster: runs models at any of its servers, and sees what they say and count."""

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.server import picture
from scale.cluster import LIMIT_S, SOON_S, Deployed, until, wait

TRIES = 5
"""Until two requests come to two servers, which Ray Serve chooses."""


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster, and a client of it."""

    deployed: Deployed
    client: httpx.AsyncClient

    @property
    def urls(self) -> list[str]:
        return self.deployed.nodes.urls

    async def run(
        self,
        model: str,
        name: str = "",
        *,
        at: int = 0,
        upload: bytes | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Post a picture, a new one unless one is given."""
        told = {key.replace("_", "-"): value for key, value in headers.items()}
        told |= {"x-request-id": name} if name else {}
        return await self.client.post(
            f"{self.urls[at]}/models/{model}", content=upload or fresh(), headers=told
        )

    async def numbers(self, name: str, model: str = "", *, at: int = 0) -> dict[str, float]:
        """Return a number of every replica that has it, as one server tells."""
        return numbers(await self.page(at), name, model)

    async def number(self, name: str, deployment: str, model: str = "") -> list[float]:
        """Return a number of each replica of a deployment."""
        found = await self.numbers(name, model)
        return [value for replica, value in found.items() if replica.startswith(f"{deployment}-")]

    async def page(self, at: int) -> str:
        """Return all numbers that a server tells."""
        answer = await self.client.get(f"{self.urls[at]}/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def is_idle(self) -> bool:
        """Tell whether nobody has a job any more."""
        return not any((await self.numbers("calotype_queue_jobs")).values())

    def servers(self, name: str) -> set[int]:
        """Return the processes in front that served requests of an id."""
        return {pid for kind, pid in self.deployed.mentions(name) if kind == "ingress"}

    async def runs(self, name: str) -> None:
        """Wait until a request computes."""

        async def is_running() -> bool:
            answer = await self.client.get(f"{self.urls[0]}/requests/{name}")
            return answer.status_code == 200 and answer.json()["progress"] is not None

        await until(is_running)


@contextlib.asynccontextmanager
async def visiting(deployed: Deployed) -> AsyncIterator[Site]:
    """Use a cluster."""
    async with httpx.AsyncClient(timeout=SOON_S) as client:
        yield Site(deployed, client)


def numbers(page: str, name: str, model: str = "") -> dict[str, float]:
    """Return a number of every replica that has it."""
    own = "\n".join(line for line in page.splitlines() if line.startswith((name, f"# TYPE {name}")))
    return {
        one.labels["replica"]: one.value
        for family in text_string_to_metric_families(own + "\n")
        for one in family.samples
        if one.name == name and one.labels.get("model", "") == model
    }


def fresh() -> bytes:
    """Return a picture that nobody has seen."""
    return picture(seed=uuid.uuid4().int)


def begin_long(url: str, aside: ThreadPoolExecutor) -> tuple[bytes, Future[httpx.Response]]:
    """Send a request that takes long; return what was sent, once it computes."""
    upload, name = fresh(), f"long-{time.monotonic_ns()}"
    headers = {"x-request-id": name}
    answer = aside.submit(
        httpx.post, f"{url}/models/slow", content=upload, headers=headers, timeout=LIMIT_S
    )

    def computes() -> bool:
        state = httpx.get(f"{url}/requests/{name}", timeout=LIMIT_S)
        return state.status_code == 200 and state.json()["progress"] is not None

    wait(computes)
    return upload, answer


async def across(site: Site, act: Callable[[str, dict[str, str]], Awaitable[None]]) -> None:
    """Have two requests, one about the other, served by two servers.

    Args:
        site: where.
        act: sends one with an id at node 0, and one about it with these headers at node 1.
    """
    for _ in range(TRIES):
        name = f"cross-{uuid.uuid4().hex[:8]}"
        other = f"{name}-other"
        await act(name, {"x-request-id": other})

        async def are_logged(name: str = name, other: str = other) -> bool:
            return bool(site.servers(name) and site.servers(other))

        await until(are_logged)
        if site.servers(name).isdisjoint(site.servers(other)):
            return
    pytest.fail("one server got all requests")
