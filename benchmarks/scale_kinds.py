"""What a server on Ray consists of: its processes kind by kind, and what goes between them."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from processes import kill_all, note_children, share_bytes
from server import Server, serving

KINDS = {
    "ray::ProxyActor": "proxy",
    "ray::ServeReplica:calotype:ingress": "server in front",
    "ray::ServeReplica:calotype:": "replica",
    "ray::ServeController": "controller",
    "gcs_server": "GCS",
    "raylet": "raylet",
    "redis-server": "store",
}
"""By how their titles begin; the first that fits."""
WORKER, HELPERS, HERE = "model's process", "Ray's agents", "client"
KINDS_IN_ORDER = (*dict.fromkeys(KINDS.values()), WORKER, HELPERS)
"""As the tables have them."""

REST_S = 5.0

_SOCKET = re.compile(r"^ESTAB\s+\d+\s+\d+\s+(\S+)\s+(\S+).*?pid=(\d+)")
_SENT = re.compile(r"bytes_sent:(\d+)")

Flows = dict[tuple[str, str], float]
"""Bytes, by kind of the sender and of the receiver."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the processes of a server took so far."""

    cpu_s: Mapping[str, float]
    """By kind."""
    sent_bytes: Flows
    """Over connections that are still open."""

    def cpu_ms_since(self, before: "Snapshot", requests: int) -> dict[str, float]:
        """Return the processor time a request, by kind."""
        return {kind: s / requests * 1e3 for kind, s in self._cpu_s_since(before).items()}

    def cores_since(self, before: "Snapshot", seconds: float) -> dict[str, float]:
        """Return how many cores each kind kept busy in that time."""
        return {kind: s / seconds for kind, s in self._cpu_s_since(before).items()}

    def sent_since(self, before: "Snapshot", requests: int) -> Flows:
        """Return the bytes a request."""
        return {
            way: (count - before.sent_bytes.get(way, 0.0)) / requests
            for way, count in self.sent_bytes.items()
        }

    def _cpu_s_since(self, before: "Snapshot") -> dict[str, float]:
        return {kind: s - before.cpu_s.get(kind, 0.0) for kind, s in self.cpu_s.items()}


@contextlib.contextmanager
def started(catalog: str, *options: str) -> Iterator[Server]:
    """Serve the models of a catalog; the server and all that it started end with the block."""
    family: list[psutil.Process] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            with serving(Path(folder), catalog, *options) as server:
                try:
                    yield server
                finally:
                    note_children(server.process.pid, family)
        finally:
            kill_all(family)


def members(pid: int) -> list[tuple[psutil.Process, str]]:
    """Return the processes of a server, each with its kind."""
    main = psutil.Process(pid)
    found = []
    for child in [main, *main.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            found.append((child, _kind(child)))
    return found


def snapshot(*pids: int) -> Snapshot:
    """See what servers took so far, and this process."""
    cpu_s: dict[str, float] = defaultdict(float)
    kinds: dict[int, str] = {}
    for process, kind in ((psutil.Process(), HERE), *(one for pid in pids for one in members(pid))):
        kinds[process.pid] = kind
        with contextlib.suppress(psutil.Error):
            took = process.cpu_times()
            cpu_s[kind] += took.user + took.system
    return Snapshot(dict(cpu_s), _sent(kinds))


def rest(server: Server) -> dict[str, float]:
    """Return how many cores each kind of process keeps busy although nobody asks."""
    before = snapshot(server.process.pid)
    time.sleep(REST_S)
    return snapshot(server.process.pid).cores_since(before, REST_S)


def memory_bytes(pid: int) -> dict[str, list[int]]:
    """Return what each process of a server holds, by kind; what they share is divided."""
    found: dict[str, list[int]] = defaultdict(list)
    for process, kind in members(pid):
        if size := share_bytes(process):
            found[kind].append(size)
    return dict(found)


def _kind(process: psutil.Process) -> str:
    titles = ((process.cmdline() or [""])[0], process.name())
    for title in titles:
        for start, kind in KINDS.items():
            if title.startswith(start):
                return kind
    parent = process.parent()
    return WORKER if parent and _is_ours(parent) else HELPERS


def _is_ours(process: psutil.Process) -> bool:
    title = (process.cmdline() or [""])[0]
    return title.startswith("ray::ServeReplica:calotype:")


def _sent(kinds: Mapping[int, str]) -> Flows:
    """Ask the kernel how much went over each TCP connection between two of the processes."""
    if shutil.which("ss") is None:
        return {}
    text = subprocess.run(
        ["ss", "--tcp", "--info", "--numeric", "--processes", "--oneline"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    owner: dict[tuple[str, str], str] = {}
    sent: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if (socket := _SOCKET.match(line)) and (kind := kinds.get(int(socket[3]))):
            ends = (_plain(socket[1]), _plain(socket[2]))
            owner[ends] = kind
            bytes_sent = _SENT.search(line)
            sent[ends] = int(bytes_sent[1]) if bytes_sent else 0
    flows: Flows = defaultdict(float)
    for (here, there), count in sent.items():
        if receiver := owner.get((there, here)):
            flows[owner[here, there], receiver] += count
    return dict(flows)


def _plain(address: str) -> str:
    """Write an address of IPv4 in IPv6 as what it is."""
    return address.replace("[::ffff:", "").replace("]:", ":")
