from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.server import Gate, Server, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with the models echo, draw and style, and no tokens."""
    async with serving(tmp_path) as started:
        yield started


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Put a gate before fake models, where they would sleep."""
    gate = Gate()
    monkeypatch.setattr("calotype.backends.fake.time", SimpleNamespace(sleep=gate.sleep))
    yield gate
    gate.open()
