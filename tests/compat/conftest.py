"""A real server for the real clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from e2e.server import serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `calotype serve`, with upscale-fast as the default model."""
    options = ("--default-model", "upscale-fast", "--hold-s", "60")
    with serving(tmp_path_factory.mktemp("server"), *options) as started:
        yield started.url


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PNG, reddish on the left and bluish on the right."""
    path = tmp_path_factory.mktemp("picture") / "in.png"
    image = Image.new("RGB", (40, 24), (200, 60, 40))
    image.paste((40, 70, 200), (20, 0, 40, 24))
    image.save(path)
    return path
