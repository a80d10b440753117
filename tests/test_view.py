"""What live servers are given is what the tests mean."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api.forms import MODELS
from api.server import ECHO
from calotype.catalog.catalog import build_catalog
from calotype.domain.model import WeightFile
from calotype.errors import InvalidCatalogError
from view import package_with, write_catalog


def test_every_model_that_comes_along_can_be_written_down(tmp_path: Path) -> None:
    write_catalog(tmp_path / "models.toml", build_catalog().all())


def test_a_model_that_no_file_gives_is_refused(tmp_path: Path) -> None:
    weights = WeightFile(role="bin", package="", path="/secret", sha256="", size_bytes=3)
    with pytest.raises(InvalidCatalogError):
        write_catalog(tmp_path / "models.toml", [replace(ECHO, files=(weights,))])


def test_a_process_has_these_models_and_no_others(tmp_path: Path) -> None:
    package = package_with(tmp_path / "package", MODELS)
    code = "from calotype.catalog.catalog import build_catalog\n"
    code += "print(*(spec.id for spec in build_catalog().all()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(package)},
    )
    assert done.stdout.split() == sorted(spec.id for spec in MODELS)
