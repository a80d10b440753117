"""The real page, in Debian's Chromium, from a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from compat import prepare
from e2e.server import Server, serving
from page.visitor import Visitor

SHOTS = Path(__file__).parents[2] / "out" / "page"
"""Where the pictures of the page are put, to be looked at."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the models that come along, and no tokens."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--default-model", "upscale-fast") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: while it is open, no other test could have an event loop."""
    with sync_playwright() as playwright:
        # Without its sandbox, as containers that run as root have none to give.
        path = prepare.chromium()
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Return what opens the page as somebody new, with whatever a browser context may have."""
    visitors: list[Visitor] = []

    def begin(server: Server, expected: tuple[str, ...] = (), **options: object) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
        visitors.append(Visitor(context, server.url, SHOTS, expected))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        visitor.leave()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 96x64, with something to see."""
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((96, 64)).convert("RGB").save(path)
    return path
