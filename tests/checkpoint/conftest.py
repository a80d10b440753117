"""Checkpoints that spandrel opens."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the libraries warn of each other."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def weights(shared: Path) -> Path:
    """The folder of public checkpoints beside the project."""
    folder = shared / "weights"
    if not folder.is_dir():
        pytest.skip("../shared/weights, with public checkpoints, is absent")
    return folder
