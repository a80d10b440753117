"""What many tests share."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test

from e2e.server import EXTRA
from live import SERVERS, LiveServers, skip_inside
from redis_server import RedisServer, running

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run choose which server it tests."""
    group = parser.getgroup("calotype", "which server is tested")
    group.addoption(
        "--serve-with",
        default="",
        metavar="ARGS",
        help="add these to the command line of every `calotype serve` that tests start",
    )
    group.addoption(
        "--live",
        metavar="ARGS",
        help="run the wire tests against processes of `calotype serve ARGS`; `--live=` for no more",
    )
    group.addoption("--long", action="store_true", help="let clusters suffer for three minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Tell the modules that start servers."""
    config.addinivalue_line("markers", "inside: the test needs the server in its own process")
    EXTRA[:] = shlex.split(config.getoption("--serve-with"))
    if (arguments := config.getoption("--live")) is not None:
        SERVERS[:] = [LiveServers(shlex.split(arguments))]


def pytest_unconfigure() -> None:
    """End the servers that were kept."""
    for servers in SERVERS:
        servers.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests met a live server: others pass with none."""
    for servers in SERVERS:
        terminalreporter.write_line(
            f"{len(servers.tests)} tests had a live server; {servers.starts} were started"
        )


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Take back what a test told the processes that this one starts."""
    before = os.environ.copy()
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def _inside(request: pytest.FixtureRequest) -> None:
    """Skip, where servers are processes, what can't be tested from without."""
    for servers in SERVERS:
        servers.has_examples = is_hypothesis_test(request.function)
        if request.node.get_closest_marker("inside"):
            skip_inside()


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test pictures beside the project; a test that needs it skips without it."""
    if not SHARED.is_dir():
        pytest.skip("../shared, with the test pictures, is absent")
    return SHARED


@pytest.fixture(scope="session")
def compiled_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of compiled networks for the whole run."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A started redis-server; the test skips where none is installed."""
    with running(tmp_path / "redis") as server:
        yield server
