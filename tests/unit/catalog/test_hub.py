from pathlib import Path

import pytest

from calotype.catalog.hub import Repository, download, look_up
from calotype.errors import (
    ForbiddenError,
    MissingExtraError,
    MissingWeightsError,
    UnknownModelError,
)
from loopback import COMMIT, NETWORKS, Hub


def _get(repository: Repository, name: str, folder: Path) -> Path:
    """Download one file by its name."""
    return download(repository, next(f for f in repository.files if f.name == name), folder)


def test_what_a_repository_holds(served: Hub) -> None:
    served.tags = ["lora"]
    repository = look_up("acme/nets")
    assert (repository.commit, repository.licence) == (COMMIT, "mit")
    assert repository.tags == {"lora"}
    assert {file.name: file.size_bytes for file in repository.files} == {
        name: len(body) for name, body in NETWORKS.items()
    }
    assert [bool(file.sha256) for file in repository.files] == [True, False, True, False]
    assert [bool(file.git_sha1) for file in repository.files] == [False, True, False, True]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_is_fetched_at_the_commit(served: Hub, tmp_path: Path, name: str) -> None:
    """A branch may move while files arrive: all of them come from the one commit."""
    path = _get(look_up("acme/nets"), name, tmp_path)
    assert path == tmp_path / name
    assert path.read_bytes() == NETWORKS[name]
    assert all(COMMIT in line for line in served.asked if "resolve" in line)


def test_a_connection_that_breaks_is_made_again(served: Hub, tmp_path: Path) -> None:
    served.cut.add("x2.onnx")
    path = _get(look_up("acme/nets"), "x2.onnx", tmp_path)
    assert served.fetched() == ["x2.onnx", "x2.onnx"]
    assert path.read_bytes() == NETWORKS["x2.onnx"]


def test_a_connection_that_stays_broken(served: Hub, tmp_path: Path) -> None:
    served.broken.add("x2.onnx")
    with pytest.raises(MissingWeightsError, match="can't be reached; try again later"):
        _get(look_up("acme/nets"), "x2.onnx", tmp_path)
    assert not (tmp_path / "x2.onnx").exists()


def test_a_damaged_file_is_refused(served: Hub, tmp_path: Path) -> None:
    served.damaged.add("x2.onnx")
    repository = look_up("acme/nets")
    with pytest.raises(MissingWeightsError, match="did not arrive as the Hub describes it"):
        _get(repository, "x2.onnx", tmp_path)
    assert not (tmp_path / "x2.onnx").exists()
    served.damaged.clear()
    assert _get(repository, "x2.onnx", tmp_path).is_file()


def test_a_leftover_of_another_revision_is_not_taken(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    repository = look_up("acme/nets")
    (tmp_path / "x2.onnx").write_bytes(b"older")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="can't be reached"):
        _get(repository, "x2.onnx", tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert _get(repository, "x2.onnx", tmp_path).read_bytes() == served.files["x2.onnx"]


def test_a_disk_that_cannot_be_written(served: Hub, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        _get(look_up("acme/nets"), "x2.onnx", tmp_path / "taken")
    assert not served.fetched()


def test_files_that_the_token_does_not_open(served: Hub, tmp_path: Path) -> None:
    """A gated repository says what it holds, and keeps it."""
    served.gated_files = True
    with pytest.raises(ForbiddenError, match=r"acme/nets is gated: accept its terms .* HF_TOKEN"):
        _get(look_up("acme/nets"), "x2.onnx", tmp_path)


@pytest.mark.parametrize("status", [401, 404])
def test_a_mirror_that_only_knows_status_codes(served: Hub, status: int) -> None:
    served.status = status
    with pytest.raises(UnknownModelError, match="there is no model acme/nets"):
        look_up("acme/nets")


def test_a_hub_in_trouble(served: Hub) -> None:
    served.status = 501
    with pytest.raises(MissingWeightsError, match="answered 501; try again later"):
        look_up("acme/nets")


def test_a_revision(served: Hub) -> None:
    assert look_up("acme/nets", "v1").commit == COMMIT
    assert "GET /api/models/acme/nets/revision/v1" in served.asked
    with pytest.raises(UnknownModelError, match="acme/nets has no revision v9"):
        look_up("acme/nets", "v9")


def test_the_token_is_sent(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    look_up("acme/nets")
    assert served.tokens == {"Bearer hf_secret"}


def test_a_repository_that_is_not_there(served: Hub) -> None:
    with pytest.raises(UnknownModelError, match=f"there is no model acme/gone at {served.url}"):
        look_up("acme/gone")


def test_a_gated_repository(served: Hub) -> None:
    served.gated = True
    with pytest.raises(ForbiddenError, match=r"acme/nets is gated: accept its terms .* HF_TOKEN"):
        look_up("acme/nets")


def test_a_name_that_the_hub_cannot_have(served: Hub) -> None:
    with pytest.raises(UnknownModelError, match="no name of a model"):
        look_up("acme/..nets--")
    assert not served.asked


def test_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="HF_HUB_OFFLINE keeps acme/nets away"):
        look_up("acme/nets")
    assert not served.asked


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingWeightsError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        look_up("acme/nets")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calotype\[hub\]'"):
        look_up("acme/nets")
