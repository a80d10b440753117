"""A cluster of several nodes on this machine, with Calotype on it, whose parts a test can kill."""

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from calotype.scale import node
from ports import free_port

# Ray Serve has a proxy only where there is a replica, and spreads these as it comes. A node has
# room for one replica that takes most of it, so each gets one, and one that comes back does too.
ANCHOR = """
[[model]]
id = "test/anchor"
alias = "anchor"
backend = "fake"
"""
ANCHORED = "anchor: cpus=3 replicas"
START_S = 240.0
STOP_S = 90.0
SOON_S = 60.0
"""Far more than what a test waits for takes, on a machine that is busy with something else."""
LIMIT_S = 120.0
"""The same for what takes long in itself: Ray Serve looks at the load of the last half minute."""
MARKS = [
    pytest.mark.timeout(600),
    # Ray leaves sockets and processes to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FAKE = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
[model.parameters.invert]
type = "boolean"
default = true
help = "swaps light and dark"
[model.options]
step_s = 0.02
steps = 2

[[model]]
id = "test/double"
alias = "double"
backend = "fake"
scale = 2
[model.options]
step_s = 0.05
steps = 2
"""


@dataclass(slots=True)
class Nodes:
    """Nodes of Ray, the first of which is the head."""

    ports: list[int]
    """Where each node answers HTTP."""
    cluster: Any
    workers: dict[int, Any] = field(default_factory=dict)
    """Beside the head, by port."""

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def add(self, port: int) -> None:
        """Start another node, which answers at a port."""
        self.workers[port] = self.cluster.add_node(
            num_cpus=4, env_vars={"RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(port)}
        )

    def kill(self, port: int) -> None:
        """End a node beside the head, and all that runs there, at once."""
        self.cluster.remove_node(self.workers.pop(port), allow_graceful=False)

    def processes(self) -> dict[int, list[psutil.Process]]:
        """Return what runs on each node, by port: this machine's other clusters aren't ours."""
        found = {}
        for port, one in {self.ports[0]: self.cluster.head_node, **self.workers}.items():
            (raylet,) = one.all_processes["raylet"]
            try:
                found[port] = psutil.Process(raylet.process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                found[port] = []
        return found


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """Start nodes; all are gone at the end."""
    before = os.environ.copy()
    node.prepare()
    from ray.cluster_utils import Cluster

    heeded = signal.getsignal(signal.SIGTERM)
    started = Nodes(
        [free_port() for _ in range(count)],
        Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False}),
    )
    try:
        for port in started.ports[1:]:
            started.add(port)
        yield started
    finally:
        started.cluster.shutdown()
        signal.signal(signal.SIGTERM, heeded)  # each node set a handler of its own
        os.environ.clear()
        os.environ.update(before)


def title_of(process: psutil.Process) -> str:
    """Return what a process calls itself; empty if it is gone."""
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""


@dataclass(slots=True)
class Deployed:
    """`calotype serve --ray` beside a cluster."""

    process: "subprocess.Popen[bytes]"
    log: Path
    nodes: Nodes

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Return the processes of a deployment's replicas."""
        return [one for found in self.at_nodes(deployment).values() for one in found]

    def at_nodes(self, deployment: str) -> dict[int, list[psutil.Process]]:
        """Return the processes of a deployment's replicas, by the port of their node."""
        title = f"ray::ServeReplica:calotype:{deployment}"
        return {
            port: [one for one in found if title_of(one).startswith(title)]
            for port, found in self.nodes.processes().items()
        }

    def kill_replica(self, deployment: str, chance: random.Random | None = None) -> None:
        """End one of them, as a crash would."""
        chosen = (chance or random.Random()).choice(self.replicas(deployment))  # noqa: S311
        chosen.send_signal(signal.SIGKILL)

    def mentions(self, request_id: str) -> list[tuple[str, int]]:
        """Return which deployment's replicas, by process, logged something about a request."""
        line = rf'\(ServeReplica:calotype:(\S+) pid=(\d+).*"request_id": "{re.escape(request_id)}"'
        return [(name, int(pid)) for name, pid in re.findall(line, self.log.read_text())]

    def update(self, settings: dict[str, object], catalog: str) -> None:
        """Deploy other settings and another catalog, from another process."""
        folder = self.log.parent
        write_catalog(folder, catalog)
        command, environ = serve_command(self.nodes), environment(self.nodes, folder, settings)
        with (folder / "log-of-update").open("wb") as out:
            subprocess.run(
                [*command, "--detach"],
                env=environ,
                stdout=out,
                stderr=out,
                check=True,
                timeout=START_S,
            )


@contextlib.contextmanager
def deployed(
    nodes: Nodes, folder: Path, settings: dict[str, object], catalog: str = FAKE
) -> Iterator[Deployed]:
    """Put Calotype on a cluster, and take it off at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    write_catalog(folder, catalog)
    environ = environment(nodes, folder, settings)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(serve_command(nodes), env=environ, stdout=out, stderr=out)
    try:
        for url in nodes.urls:
            wait_until_alive(url, process, log)
        yield Deployed(process, log, nodes)
    finally:
        process.terminate()
        process.wait(STOP_S)


def serve_command(nodes: Nodes) -> list[str]:
    """Return how `calotype` is put on a cluster."""
    return [sys.executable, "-m", "calotype", "serve", "--ray", "--port", str(nodes.ports[0])]


def write_catalog(folder: Path, catalog: str) -> None:
    """Write the catalog of a cluster."""
    text = catalog if ANCHOR in catalog else catalog + ANCHOR
    (folder / "models.toml").write_text(text)


def environment(nodes: Nodes, folder: Path, settings: dict[str, object]) -> dict[str, str]:
    """Return what `calotype` is told by its environment."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALOTYPE_")}
    told = {"catalog_file": folder / "models.toml", "default_model": "invert", "log_level": "info"}
    told |= {"data_dir": folder / "data", "cache_dir": folder / "cache", "isolation": "thread"}
    places = f"{settings.get('cluster_models', '*: replicas=1')}; {ANCHORED}={len(nodes.ports)}"
    settings = settings | {"cluster_models": places}
    return (
        kept
        | {"RAY_ADDRESS": nodes.address}
        | {f"CALOTYPE_{name.upper()}": str(value) for name, value in (told | settings).items()}
    )


def wait_until_alive(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end_s, f"{url} does not answer: {log.read_text()}"
        time.sleep(0.1)


async def until(true: Callable[[], Awaitable[bool]], limit_s: float = SOON_S) -> None:
    """Wait for what a cluster does by itself."""
    async with asyncio.timeout(limit_s):
        while not await true():  # noqa: ASYNC110  it has no event for it
            await asyncio.sleep(0.1)


def wait(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for what a cluster does by itself, as ``until`` does."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, "it did not come to pass"
        time.sleep(0.2)
