"""The house keeps its shape: sizes, names, empty package files."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "calotype"
MODULES = sorted(SRC.rglob("*.py"))
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50
BANNED_NAMES = {"utils", "helpers", "common", "core", "manager", "misc"}


def functions() -> Iterator[tuple[str, int]]:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                docstring = ast.get_docstring(node, clean=False)
                spoken = len(docstring.splitlines()) if docstring else 0
                yield f"{module.relative_to(SRC)}:{node.name}", lines - spoken


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_modules_are_short_and_named_for_what_they_hold(module: Path) -> None:
    lines = module.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_MODULE_LINES
    assert module.stem not in BANNED_NAMES
    assert module.parent.name not in BANNED_NAMES
    if module.name == "__init__.py" and module.parent != SRC:
        assert not lines, "package files are empty"


def test_functions_are_short() -> None:
    sizes = dict(functions())
    assert {name: n for name, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}
    assert statistics.median(sizes.values()) <= 10
    short = sum(n <= 30 for n in sizes.values()) / len(sizes)
    assert short >= 0.9


def test_the_pipeline_can_be_read_in_one_sitting() -> None:
    """It is the file that a newcomer reads first."""
    assert len((SRC / "pipeline.py").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_environment_is_read_in_two_places() -> None:
    readers = {
        str(module.relative_to(SRC))
        for module in MODULES
        if "os.environ" in module.read_text(encoding="utf-8")
        or "os.getenv" in module.read_text(encoding="utf-8")
    }
    assert readers == {"settings.py", "environment.py"}
