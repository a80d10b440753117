"""The servers that ``serving.py`` compares, each with a model that does nothing."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

import peer
from http1 import LostError, post, post_form
from load import ask_once, closed_loop
from processes import is_alive, kill_all, note_children, tree_cpu_s
from server import clean_environment, free_port, running, serving

CALOTYPE, LITSERVE = "Calotype", "LitServe"
BARE, OWN_FLOOR = "bare starlette, libvips", "bare starlette, Calotype's codec"
CATALOG = """
[[model]]
id = "bench/nothing"
backend = "fake"
"""
HEADERS = {"content-type": "image/jpeg", "accept": "image/jpeg", "x-use-cache": "false"}
START_S = 120.0
"""Ray needs half a minute on a busy machine."""
ANSWER_S = 10.0
"""A request that came while a server was starting may never be answered."""
SETTLE_S, REST_S, RESTING = 15.0, 0.5, 0.3
"""A server is up when for half a second it keeps less than so much of a core busy."""
ROUNDING_LEVELS = 1.0
"""Calotype need not take libvips for a JPEG; two decoders may round differently."""
PILLOW_LEVELS = 3.0
"""Pillow halves the planes of colour at this quality, where libvips keeps them whole."""
TRIAL_S = 1.0
TRIAL_CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server in one setting."""

    name: str
    setting: str
    peer: peer.Peer | None
    """None: Calotype itself."""
    options: tuple[str, ...]
    request: bytes
    most_levels: float = ROUNDING_LEVELS
    """How much its picture may differ from Calotype's, in the mean."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that answers."""

    contestant: Contestant
    port: int
    pid: int
    """Of the process that all others of this server come from."""
    answer: bytes
    """The first one's picture."""

    @property
    def name(self) -> str:
        """The contestant's."""
        return self.contestant.name


def calotype(upload: bytes) -> Contestant:
    """Return ourselves, with our defaults."""
    request = post("/models/bench/nothing", upload, HEADERS)
    return Contestant(CALOTYPE, "defaults", None, (), request)


Settings = Callable[[], list[Contestant]]
"""Installs a peer, and returns it in each setting that is to be tried."""


def peers(upload: bytes) -> dict[str, Settings]:
    """Return all peers by name."""
    body = post("/predict", upload, {"content-type": "image/jpeg"})
    form = post_form("/predict", "file", upload, "image/jpeg")

    def pillow() -> list[Contestant]:
        found, options = peer.install("fastapi"), ("--codec", "pillow")
        return [Contestant("FastAPI, Pillow", _UVICORN, found, options, form, PILLOW_LEVELS)]

    def bare(name: str, codec: str) -> Settings:
        here = peer.Peer("bare", Path(sys.executable))
        return lambda: [Contestant(name, "1 process, threads", here, ("--codec", codec), body)]

    return {
        LITSERVE: _libvips(LITSERVE, "litserve", body, _LITSERVE),
        "BentoML": _libvips("BentoML", "bentoml", body, _BENTOML),
        "Ray Serve": _libvips("Ray Serve", "ray", body, _RAY),
        "FastAPI, Pillow": pillow,
        "FastAPI, libvips": _libvips(
            "FastAPI, libvips", "fastapi", form, {_UVICORN: ("--codec", "vips")}
        ),
        BARE: bare(BARE, "vips"),
        OWN_FLOOR: bare(OWN_FLOOR, "calotype"),
    }


def _libvips(
    name: str, package: str, request: bytes, options: Mapping[str, Sequence[str]]
) -> Settings:
    """Return a peer that has our codec; options are those of its script, by what they mean."""

    def install() -> list[Contestant]:
        found = peer.install(package)
        return [
            Contestant(name, words, found, tuple(told), request) for words, told in options.items()
        ]

    return install


_UVICORN = "uvicorn's defaults"
_LITSERVE = {
    f"{workers} worker{'s' if workers > 1 else ''}, {queue}": ("--workers", str(workers), *fast)
    for queue, fast in (("default queue", ()), ("ZeroMQ", ("--fast-queue",)))
    for workers in (1, 2)
}
"""One of each on two cores; a server process for each worker, as is LitServe's default."""
_BENTOML = {
    "1 worker, 2 threads": ("--workers", "1", "--threads", "2"),
    "2 workers": ("--workers", "2"),
}
_RAY = {
    "1 replica": ("--replicas", "1"),
    "2 replicas": ("--replicas", "2"),
    "2 replicas, throughput optimized": ("--replicas", "2", "--throughput"),
}


def best(settings: Sequence[Contestant]) -> Contestant:
    """Try a peer in each setting; return the one in which it is fastest.

    Raises:
        PeerMissingError: it runs in none.
    """
    if len(settings) == 1:
        return settings[0]
    rates, failures = {}, []
    for one in settings:
        try:
            with folder() as place, started(Path(place), one) as server:
                rates[one] = uvloop.run(rate(server, TRIAL_S))
        except peer.PeerMissingError as error:
            failures.append(f"{one.setting}: {error}")
            print(f"{one.name}, {one.setting}: {error}", flush=True)
        else:
            print(f"{one.name}, {one.setting}: {rates[one]:.0f} requests/s", flush=True)
    if not rates:
        raise peer.PeerMissingError("; ".join(failures))
    return max(rates, key=lambda one: rates[one])


async def rate(server: Running, seconds: float) -> float:
    """Return the requests a second of a few clients.

    Raises:
        PeerMissingError: an answer was wrong, or none came.
    """
    port, request = server.port, server.contestant.request
    try:
        await closed_loop(port, request, TRIAL_CLIENTS, 0, 0)  # now all of its workers are up
        found = await closed_loop(port, request, TRIAL_CLIENTS, seconds, seconds / 2)
    except (LostError, OSError, RuntimeError) as error:
        raise peer.PeerMissingError(f"it fails under load: {error}") from error
    return found.rate


def folder() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder for what a server writes, which may still write while it is removed."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


@contextlib.contextmanager
def started(folder: Path, contestant: Contestant) -> Iterator[Running]:
    """Run a contestant; it and all that it started end with the block.

    Raises:
        PeerMissingError: it doesn't come up, twice.
    """
    try:
        stack, server = _start(folder, contestant)
    except peer.PeerMissingError as error:  # Ray gives up after 30 s, which may be the machine
        print(f"{contestant.name}, {contestant.setting}: {error}; once more", flush=True)
        stack, server = _start(folder, contestant)
    with stack:
        yield server


def _start(folder: Path, contestant: Contestant) -> tuple[contextlib.ExitStack, Running]:
    """Start a contestant; return what ends it, and it."""
    family: list[psutil.Process] = []
    with contextlib.ExitStack() as stack:
        stack.callback(kill_all, family)
        if contestant.peer is None:
            server = stack.enter_context(serving(folder, CATALOG))
            pid, port, log = server.process.pid, server.port, server.log
        else:
            port, log = free_port(), folder / f"{contestant.peer.name}.log"
            script = str(peer.PEERS / f"{contestant.peer.name}_peer.py")
            command = [str(contestant.peer.python), script, "--port", str(port)]
            environ = {**clean_environment(folder), "TMPDIR": str(folder)}
            pid = stack.enter_context(running([*command, *contestant.options], log, environ)).pid
        stack.callback(note_children, pid, family)
        answer = _first_answer(port, contestant.request, pid, log)
        _settle(pid)
        return stack.pop_all(), Running(contestant, port, pid, answer)


def _settle(pid: int) -> None:
    """Wait until a server rests: its second worker may come up after the first has answered."""
    end_s = time.monotonic() + SETTLE_S
    while time.monotonic() < end_s:
        before_s = tree_cpu_s(pid)
        time.sleep(REST_S)
        if tree_cpu_s(pid) - before_s < RESTING * REST_S:
            return


def _first_answer(port: int, request: bytes, pid: int, log: Path) -> bytes:
    """Wait until a server answers what it will be asked; return that picture."""
    end_s = time.monotonic() + START_S
    said = "nothing"
    while time.monotonic() < end_s and is_alive(psutil.Process(pid)):
        with contextlib.suppress(LostError, OSError):
            answer = uvloop.run(ask_once(port, request, ANSWER_S))
            if answer.status == 200:
                return answer.body
            said = answer.head.split("\r\n", 1)[0]
        time.sleep(0.1)
    last = log.read_text(encoding="utf-8", errors="replace").strip().rsplit("\n", 1)[-1]
    raise peer.PeerMissingError(f"it doesn't come up ({said}): {last}")
