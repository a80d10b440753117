import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.server import Gate, InnerGate, Server, serving
from live import SERVERS, LiveGate, skip_inside


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with the models echo, draw and style, and no tokens."""
    async with serving(tmp_path) as started:
        yield started


@pytest.fixture
def monkeypatch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What is patched here is patched in no other process."""
    return skip_inside() if SERVERS else monkeypatch


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What another process logs isn't seen here."""
    return skip_inside() if SERVERS else caplog


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Put a gate before fake models, where they would sleep."""
    with live_gate(tmp_path) if SERVERS else inner_gate() as gate:
        yield gate
        gate.open()


@contextlib.contextmanager
def live_gate(folder: Path) -> Iterator[LiveGate]:
    (servers,) = SERVERS
    gate = LiveGate(folder / "gate")
    servers.gate = gate.folder
    yield gate
    servers.gate = None


@contextlib.contextmanager
def inner_gate() -> Iterator[InnerGate]:
    gate = InnerGate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calotype.backends.fake.time", SimpleNamespace(sleep=gate.sleep))
        yield gate
