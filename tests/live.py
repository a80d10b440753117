"""Live servers for the wire tests: `calotype serve` as a process, in the place of one inside.

`pytest --live ARGS` makes ``api.server.serving`` take its servers here. A process is started for
each set of models and settings, and kept for the next test that wants the same, once it is as if
new: no jobs, no loaded models, no tokens, and none of the ids of requests that were used. Answers
in its cache can't be taken back, so pictures differ from lease to lease (``api.server.picture``).
"""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
import pytest
from hypothesis.errors import UnsatisfiedAssumption
from prometheus_client.parser import text_string_to_metric_families

from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError
from e2e.server import Server, serving
from view import package_with

KEPT = 3
"""Idle servers at most; each of a cluster is many processes."""
CLEAN_S = 20.0
TIMEOUT_S = 60.0
TOKEN = re.compile(rb"Bearer calo_[\w-]+")
NO_HTTP = "Invalid HTTP request received."
"""What uvicorn says of bytes that never reach an application."""
PROCESS = "replica"
"""The label that a cluster adds."""
AT_START = frozenset({"preload"})
"""Settings that matter at the start only: such a server serves one test."""

Key = tuple[tuple[str, ...], tuple[tuple[str, object], ...]]


def skip_inside() -> NoReturn:
    """Skip a test that looks into the server or changes it, which another process is."""
    pytest.skip("needs the server's inside")


@dataclass(slots=True)
class LiveServer:
    """A process, and what a test did with it."""

    process: Server
    folder: Path
    key: Key
    stack: contextlib.ExitStack
    models: tuple[str, ...]
    asked: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Id and authorization of each request that named its id."""

    async def note(self, request: httpx.Request) -> None:
        """Remember the id of a request."""
        told = {key.lower(): value for key, value in request.headers.raw}
        if name := told.get(b"x-request-id"):
            found = TOKEN.fullmatch(told.get(b"authorization", b""))
            self.asked.add((name, found[0] if found else b""))

    def link(self, data: Path) -> None:
        """Put another folder in the place of the server's data."""
        data.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / "link"
        fresh.symlink_to(data)
        fresh.replace(self.folder / "data")

    def hold(self, gate: Path | None) -> None:
        """Put a gate before the models, or take it away."""
        link = self.folder / "gate"
        link.unlink(missing_ok=True)
        if gate is not None:
            link.symlink_to(gate)

    async def heed(self, client: httpx.AsyncClient, data: Path) -> None:
        """Wait until the server knows whether a token is needed now."""
        wanted = 200 if TokenStore(data / TOKENS_FILE).is_empty() else 401

        async def heeded() -> bool:
            return (await client.get("/models")).status_code == wanted

        await eventually(heeded)

    async def clean(self, client: httpx.AsyncClient, data: Path) -> bool:
        """Make the server as if new; False if that can't be done."""
        if any(token.rate_per_minute for token in TokenStore(data / TOKENS_FILE).list()):
            return False  # what is spent of a rate stays spent
        for name, authorization in self.asked:
            told = {b"authorization": authorization} if authorization else {}
            for _ in range(2):  # the first cancels it, the second forgets it
                await client.delete(f"/requests/{quote(name, safe='')}", headers=told)
        self.asked.clear()
        self.hold(None)
        empty = self.folder / "empty"
        self.link(empty)
        try:
            await self.heed(client, empty)
            await eventually(self._is_idle)
            for model in self.models:
                await client.post(f"/models/{model}/unload")
        except (TimeoutError, httpx.HTTPError):
            return False
        listed = (await client.get("/models")).json()
        return {model["state"] for model in listed} == {"unloaded"}

    async def _is_idle(self) -> bool:
        return sample(self.process.url, "calotype_queue_jobs", {}) == 0


def _no_example(reason: str) -> NoReturn:
    """Leave out what would be no test of ours."""
    if SERVERS[0].has_examples:
        raise UnsatisfiedAssumption
    pytest.skip(reason)


class Client(httpx.AsyncClient):
    """A client of a live server, for tests that were written for one inside."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Send; what HTTP can't carry is no example, and what its servers add no header of ours."""
        try:
            response = await super().send(request, **options)
        except httpx.LocalProtocolError as error:
            _no_example(f"no HTTP client sends this: {error}")
        if response.status_code == 400 and response.text == NO_HTTP:
            _no_example("no HTTP server passes this on")
        for name in ("date", "server"):  # an HTTP server's own
            response.headers.pop(name, None)
        return response


@dataclass(slots=True)
class LiveServers:
    """All live servers of a run of the tests."""

    arguments: Sequence[str]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="live-")))
    idle: list[LiveServer] = field(default_factory=list)
    leases: int = 0
    starts: int = 0
    tests: set[str] = field(default_factory=set)
    """Ids of those that had a live server."""
    has_examples: bool = False
    """Whether the test that runs is one of many examples."""
    gate: Path | None = None
    """Of the test that runs, if it has one."""
    url: str = ""
    """Of the server that was leased last."""

    def take(self, specs: Sequence[ModelSpec], settings: Mapping[str, object]) -> LiveServer:
        """Return a server with these models and settings that nobody uses."""
        self.leases += 1
        self.tests.add(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])
        key = (tuple(map(repr, specs)), tuple(sorted(settings.items())))
        found = next((one for one in self.idle if one.key == key), None)
        if found is not None:
            self.idle.remove(found)
        else:
            found = self._start(key, specs, settings)
        self.url = found.process.url
        return found

    def give_back(self, server: LiveServer, *, is_clean: bool) -> None:
        """Keep a server for another test, or end it."""
        if not is_clean or AT_START & dict(server.key[1]).keys():
            server.stack.close()
            return
        self.idle.append(server)
        if len(self.idle) > KEPT:
            self.idle.pop(0).stack.close()

    def close(self) -> None:
        """End all that are idle, and remove what they kept."""
        while self.idle:
            self.idle.pop().stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(
        self, key: Key, specs: Sequence[ModelSpec], settings: Mapping[str, object]
    ) -> LiveServer:
        """Start a process."""
        self.starts += 1
        folder = self.folder / str(self.starts)
        folder.mkdir()
        try:
            package = package_with(folder / "package", specs)
        except InvalidCatalogError as error:
            pytest.skip(f"no process can be given these models: {error}")
        environ = {f"CALOTYPE_{name.upper()}": str(value) for name, value in settings.items()}
        environ |= {"PYTHONPATH": str(package), "CALOTYPE_DATA_DIR": str(folder / "data")}
        (folder / "empty").mkdir()
        (folder / "data").symlink_to(folder / "empty")
        with contextlib.ExitStack() as stack:
            started = serving(folder, *self.arguments, environ=environ, patient=True)
            process = stack.enter_context(started)
            models = tuple(spec.id for spec in specs)
            return LiveServer(process, folder, key, stack.pop_all(), models)


SERVERS: list[LiveServers] = []
"""One where `pytest --live` asks for it, else none."""


@contextlib.asynccontextmanager
async def leased(
    folder: Path, specs: Sequence[ModelSpec], settings: Mapping[str, object]
) -> AsyncIterator[httpx.AsyncClient]:
    """Be the client of a live server of one's own, whose data lie in ``folder / "data"``."""
    if "store_url" in settings:
        pytest.skip("has a store of its own, and looks into that")
    (servers,) = SERVERS
    server, data = servers.take(specs, settings), folder / "data"
    is_clean = False
    client = Client(
        base_url=server.process.url, timeout=TIMEOUT_S, event_hooks={"request": [server.note]}
    )
    try:
        async with client:
            server.link(data)
            server.hold(servers.gate)
            await server.heed(client, data)
            try:
                yield client
            except pytest.skip.Exception:
                is_clean = await server.clean(client, data)
                raise
            is_clean = await server.clean(client, data)
    finally:
        servers.give_back(server, is_clean=is_clean)


class LiveGate:
    """A gate before fake models that are in other processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def open(self) -> None:
        (self.folder / "opened").touch()

    async def reached(self) -> None:
        async def true() -> bool:
            return (self.folder / "reached").exists()

        await eventually(true)


def sample(url: str, name: str, labels: Mapping[str, str]) -> float:
    """Return a number from a server's metrics, 0 if it isn't there.

    Of a cluster, which tells it for each process: the sum of the servers in front, if they have it.
    """
    with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_S) as response:  # noqa: S310
        families = text_string_to_metric_families(response.read().decode())
        found = [one for family in families for one in family.samples if one.name == name]
    by_process = [
        (one.labels.get(PROCESS, ""), one.value)
        for one in found
        if {key: value for key, value in one.labels.items() if key != PROCESS} == dict(labels)
    ]
    in_front = [value for process, value in by_process if process.startswith("ingress-")]
    return sum(in_front or (value for _, value in by_process))


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the server does by itself, but not for long."""
    async with asyncio.timeout(CLEAN_S):
        while not await true():  # noqa: ASYNC110  the server has no event for it
            await asyncio.sleep(0.02)
