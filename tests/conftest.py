"""What many tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


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
