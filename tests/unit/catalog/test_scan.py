import logging
from pathlib import Path

import pytest

from calotype.catalog.scan import scan_models_dir
from calotype.errors import InvalidCatalogError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"network")


def _ids(folder: Path) -> list[str]:
    return [spec.id for spec in scan_models_dir(folder)]


def test_every_network_is_a_model_named_by_its_path(tmp_path: Path) -> None:
    _touch(tmp_path, "b.onnx", "acme/my-net.v2.onnx", "acme/n.param", "acme/n.bin", "notes.txt")
    specs = {spec.id: spec for spec in scan_models_dir(tmp_path)}
    assert sorted(specs) == ["acme/my-net.v2", "acme/n", "b"]
    assert {spec.backend for spec in specs.values()} == {"openvino"}
    assert [file.role for file in specs["b"].files] == ["onnx"]
    assert [file.role for file in specs["acme/n"].files] == ["param", "bin"]
    assert specs["acme/n"].files[1].path == str(tmp_path / "acme/n.bin")
    assert specs["acme/n"].files[1].size_bytes == 7
    assert specs["b"].revision


def test_of_deeper_files_the_last_two_names_count(tmp_path: Path) -> None:
    _touch(tmp_path, "x/y/z.onnx")
    assert _ids(tmp_path) == ["y/z"]


def test_a_missing_or_empty_folder_has_no_models(tmp_path: Path) -> None:
    assert _ids(tmp_path) == []
    assert _ids(tmp_path / "gone") == []


@pytest.mark.parametrize(
    ("names", "served"),
    [
        (["my net.onnx", "a.onnx"], ["a"]),
        (["n.param"], []),
        (["x/y/z.onnx", "y/z.onnx"], ["y/z"]),
        (["a.onnx", "a.param", "a.bin"], ["a"]),
    ],
)
def test_what_cannot_be_served_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], served: list[str]
) -> None:
    _touch(tmp_path, *names)
    with caplog.at_level(logging.WARNING):
        assert _ids(tmp_path) == served
    assert len(caplog.messages) == 1
    assert "is not served" in caplog.messages[0]


def test_hidden_files_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touch(tmp_path, ".cache/a.onnx", "._b.onnx")
    assert _ids(tmp_path) == []
    assert caplog.messages == []


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "models", tmp_path / "outside"
    _touch(outside, "a.onnx", "n.bin")
    _touch(folder, "real.onnx", "n.param")
    (folder / "a.onnx").symlink_to(outside / "a.onnx")
    (folder / "n.bin").symlink_to(outside / "n.bin")
    (folder / "sub").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "inside.onnx").symlink_to(folder / "real.onnx")
    (folder / "dead.onnx").symlink_to(folder / "gone.onnx")
    assert _ids(folder) == ["inside", "real"]


def test_a_models_folder_that_is_a_link_itself(tmp_path: Path) -> None:
    _touch(tmp_path / "real", "a.onnx")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert _ids(tmp_path / "link") == ["a"]


def test_a_toml_file_beside_a_model_describes_it(tmp_path: Path) -> None:
    _touch(tmp_path, "acme/net.onnx")
    (tmp_path / "acme/net.toml").write_text(
        "alias = 'net'\ntile = 64\noverlap = 8\nlicence = 'MIT'\n"
        "[parameters.strength]\ntype = 'number'\n"
    )
    (spec,) = scan_models_dir(tmp_path)
    assert (spec.id, spec.alias, spec.tile, spec.overlap) == ("acme/net", "net", 64, 8)
    assert spec.licence == "MIT"
    assert [param.name for param in spec.params] == ["strength"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = 'other'", "id is not a key of the catalog"),
        ("files = []", "files is not a key of the catalog"),
        ("tile = 'a'", "tile must be an integer"),
        ("= 1", "cannot be read"),
    ],
)
def test_a_broken_toml_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    _touch(tmp_path, "net.onnx")
    (tmp_path / "net.toml").write_text(text)
    with pytest.raises(InvalidCatalogError, match=message) as caught:
        scan_models_dir(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "net.toml"))


def test_a_toml_file_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "models/net.onnx")
    (tmp_path / "secret").write_text("tile = 8")
    (tmp_path / "models/net.toml").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidCatalogError, match="a link out of the models folder"):
        scan_models_dir(tmp_path / "models")
