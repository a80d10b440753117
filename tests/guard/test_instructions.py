"""No path takes more than a tenth more instructions than it did when its figure was committed."""

import shutil

import pytest

from guard import figures
from guard.callgrind import PROFILES, ROOT, count
from guard.figures import Recording
from guard.paths import ROUNDS

Pair = tuple[Recording, Recording]


@pytest.fixture(scope="module")
def counted() -> Pair:
    """What is committed for this Python, and what its paths take now."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is absent: on Debian, `make test` or `apt-get install valgrind`")
    key = figures.key_here()
    committed = figures.read().get(key)
    if committed is None:
        pytest.skip(f"no figures for {key}: `{figures.RECORD}` records them")
    return committed, count()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", ROUNDS)
def test_instructions(counted: Pair, path: str) -> None:
    profile = (PROFILES / f"{path}.callgrind").relative_to(ROOT)
    problem = figures.problem(path, *counted, profile)
    if problem:
        pytest.fail(problem, pytrace=False)
