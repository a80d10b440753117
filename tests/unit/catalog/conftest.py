from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Hub, serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a small Hub on loopback."""
    with serve(monkeypatch, tmp_path) as hub:
        yield hub
