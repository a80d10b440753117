from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.server import Server, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with the models echo, draw and style, and no tokens."""
    async with serving(tmp_path) as started:
        yield started
