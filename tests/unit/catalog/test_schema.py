import hashlib
import os
from pathlib import Path

import pytest

from calotype.catalog.schema import is_model_id, load_catalog_file
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError

DIGEST = "ab" * 32
HEAD = '[[model]]\nid = "acme/net"\nbackend = "openvino"\n'
PACKAGED = (
    f'[[model.files]]\nrole = "onnx"\npackage = "pkg"\npath = "a/b.onnx"\nsha256 = "{DIGEST}"\n'
)


def _load(folder: Path, text: str) -> list[ModelSpec]:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalog_file(path)


def _complaint(folder: Path, text: str) -> str:
    with pytest.raises(InvalidCatalogError) as caught:
        _load(folder, text)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'models.toml'}: ")
    return message.removeprefix(f"{folder / 'models.toml'}: ").removeprefix("model acme/net: ")


def test_everything_a_table_can_say(tmp_path: Path) -> None:
    text = """
        [[model]]
        id = "acme/net"
        alias = "net"
        task = "style-transfer"
        backend = "style"
        description = "Paints."
        licence = "MIT"
        source = "https://example.org"
        scale = 2
        tile = 64
        overlap = 16
        blend = 8
        align = 4
        [model.options]
        fast = true
        level = 3
        [model.parameters.strength]
        type = "number"
        help = "How much."
        default = 1
        minimum = 0
        maximum = 1.5
        [model.parameters.mask_image]
        type = "image"
        required = true
        """
    (spec,) = _load(tmp_path, text + PACKAGED)
    assert (spec.id, spec.alias, spec.task, spec.backend) == (
        "acme/net",
        "net",
        "style-transfer",
        "style",
    )
    assert (spec.description, spec.licence) == ("Paints.", "MIT")
    assert spec.source == "https://example.org"
    assert (spec.scale, spec.tile, spec.overlap, spec.blend, spec.align) == (2, 64, 16, 8, 4)
    assert spec.options == {"fast": True, "level": 3}
    strength, mask = spec.params
    assert (strength.help, strength.default) == ("How much.", 1)
    assert (strength.minimum, strength.maximum) == (0, 1.5)
    assert mask.required
    assert mask.help.startswith("Picture of what to repaint")
    assert (spec.files[0].package, spec.files[0].path) == ("pkg", "a/b.onnx")
    assert len(spec.revision) >= 12


def test_a_table_needs_an_id_and_a_backend_only(tmp_path: Path) -> None:
    (spec,) = _load(tmp_path, HEAD)
    default = ModelSpec(id="", backend="", revision="")
    assert (spec.tile, spec.overlap, spec.blend) == (default.tile, default.overlap, default.blend)
    assert spec.scale is None
    assert _load(tmp_path, "") == []


def test_a_small_tile_has_a_small_overlap(tmp_path: Path) -> None:
    (spec,) = _load(tmp_path, HEAD + "tile = 16")
    assert (spec.overlap, spec.blend) == (4, 4)


PARAMETER = "[model.parameters.p]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles = 5", "tiles is not a key of the catalog"),
        ("tile = '5'", "tile must be an integer of at least 1, got '5'"),
        ("tile = true", "tile must be an integer of at least 1, got True"),
        ("scale = 0", "scale must be an integer of at least 1, got 0"),
        ("task = 'dance'", "task must be one of super-resolution, "),
        ("licence = 5", "licence must be a string"),
        ("alias = 'a b'", "alias must be a name such as my-net, got 'a b'"),
        ("alias = 'acme/net'", "alias acme/net is taken by model acme/net"),
        ("tile = 8\noverlap = 8", "overlap must be at most the tile less align, 7, got 8"),
        ("overlap = 8\nblend = 9", "blend must be at most the overlap 8, got 9"),
        ("tile = 9\nalign = 2", "tile must be a multiple of align 2, got 9"),
        ("options = 5", "options must be a table, got 5"),
        ("options.a = [1]", "options.a must be a string, a number or a boolean, got [1]"),
        ("files = 5", "files must be an array, got 5"),
        ("files = [5]", "files[0] must be a table, got 5"),
        ("[[model.files]]\npath = 'a'", "files[0].role is missing"),
        ("[[model.files]]\nrole = ''\npath = 'a'", "files[0].role must be a string with text"),
        (PACKAGED + "size = 5", "files[0].size is not a key of the catalog"),
        (PACKAGED.replace("ab", "xy"), "files[0].sha256 must be 64 hex digits"),
        (PACKAGED.replace("a/b", "../b"), "files[0].path must be inside the package"),
        (PACKAGED.replace("a/b", "/b"), "files[0].path must be inside the package"),
        (PACKAGED.replace("pkg", "p.k"), "files[0].package must be the import name"),
        (PACKAGED.replace(DIGEST, ""), "files[0].sha256 is missing"),
        (PACKAGED + PACKAGED, "files must be one file a role, got ['onnx', 'onnx']"),
        ("[[model.files]]\nrole = 'onnx'\npath = 'gone.onnx'", "files[0].path must be a file"),
        (PARAMETER, "parameters.p.type is missing"),
        (PARAMETER + "type = 'float'", "parameters.p.type must be one of string, number, "),
        (PARAMETER + "type = 'number'\nstep = 1", "parameters.p.step is not a key"),
        (PARAMETER + "type = 'number'\nminimum = 'a'", "parameters.p.minimum must be a number"),
        (PARAMETER + "type = 'number'\nminimum = nan", "parameters.p.minimum must be a finite"),
        (PARAMETER + "type = 'number'\nminimum = 2\nmaximum = 1", "parameters.p.minimum must be"),
        (PARAMETER + "type = 'string'\nminimum = 2", "parameters.p.minimum and maximum do not go"),
        (PARAMETER + "type = 'integer'\nchoices = ['a']", "parameters.p.choices must be an array"),
        (PARAMETER + "type = 'integer'\nchoices = [true]", "parameters.p.choices must be an array"),
        (
            PARAMETER + "type = 'integer'\nchoices = [1, 1]",
            "parameters.p.choices must be different",
        ),
        (PARAMETER + "type = 'boolean'\nchoices = [1]", "parameters.p.choices does not go with"),
        (PARAMETER + "type = 'blend'", "parameters.p.choices must be names such as great-wave"),
        (PARAMETER + "type = 'blend'\nchoices = ['5']", "parameters.p.choices must be names"),
        (
            PARAMETER + "type = 'blend'\nchoices = ['a']\ndefault = 1",
            "parameters.p.default: p must",
        ),
        (PARAMETER + "type = 'integer'\ndefault = 1.5", "parameters.p.default: p must be an integ"),
        (PARAMETER + "type = 'image'\ndefault = 'AAAA'", "parameters.p.default does not go with"),
        (
            PARAMETER + "type = 'string'\nrequired = true\ndefault = 'a'",
            "parameters.p.default does",
        ),
        ("[model.parameters.P]\ntype = 'string'", "parameters.P must be named in lower case"),
        ("[model.parameters.width]\ntype = 'integer'", "parameters.width is taken by every model"),
        ("parameters.p = 5", "parameters.p must be a table, got 5"),
    ],
)
def test_a_wrong_table_is_refused_by_file_model_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    assert _complaint(tmp_path, HEAD + text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "x is not a key of the catalog"),
        ("model = 5", "model must be an array, got 5"),
        ("[[model]]", "model[0].id is missing"),
        ("[[model]]\nid = 5", "model[0].id must be a string with text, got 5"),
        ("[[model]]\nid = 'a/b/c'", "model[0].id must be a name such as acme/my-net"),
        ("[[model]]\nid = 'acme/net'", "backend is missing"),
        (HEAD + HEAD, "id acme/net is taken by model acme/net"),
        ("= 5", "cannot be read: "),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert _complaint(tmp_path, text).startswith(message)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCatalogError, match=r"gone.toml: cannot be read"):
        load_catalog_file(tmp_path / "gone.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidCatalogError, match=r"binary.toml: cannot be read"):
        load_catalog_file(tmp_path / "binary.toml")


@pytest.mark.parametrize("name", ["a", "a/b", "A.b_c-1/2", "0"])
def test_model_ids(name: str) -> None:
    assert is_model_id(name)


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a/b/c", "-a", ".a", "a b", "a\n", "../a"])
def test_what_is_no_model_id(name: str) -> None:
    assert not is_model_id(name)


def _own(folder: Path, more: str = "") -> ModelSpec:
    return _load(folder, f"{HEAD}{more}\n[[model.files]]\nrole = 'onnx'\npath = 'nets/a.onnx'")[0]


def test_the_users_files_are_beside_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/a.onnx").write_bytes(b"network")
    (file,) = _own(tmp_path).files
    assert file.path == str(tmp_path / "nets/a.onnx")
    assert file.size_bytes == 7


def test_an_edited_file_is_another_revision(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    network = tmp_path / "nets/a.onnx"
    network.write_bytes(b"network")
    before = _own(tmp_path).revision
    assert _own(tmp_path).revision == before
    os.utime(network, ns=(1, 1))
    assert _own(tmp_path).revision != before


def test_a_file_with_a_digest_is_the_same_revision_wherever_it_is(tmp_path: Path) -> None:
    revisions = set()
    for name in ("one", "other"):
        folder = tmp_path / name
        (folder / "nets").mkdir(parents=True)
        (folder / "nets/a.onnx").write_bytes(b"network")
        text = f"{HEAD}[[model.files]]\nrole = 'onnx'\npath = 'nets/a.onnx'\n"
        digest = hashlib.sha256(b"network").hexdigest()
        revisions.add(_load(folder, f"{text}sha256 = '{digest.upper()}'")[0].revision)
    assert len(revisions) == 1


@pytest.mark.parametrize(
    "more",
    [
        *("scale = 2", "tile = 64", "overlap = 20", "blend = 3", "align = 2"),
        "options.fast = true",
    ],
)
def test_what_changes_pixels_is_another_revision(tmp_path: Path, more: str) -> None:
    before = _load(tmp_path, HEAD + PACKAGED)[0].revision
    assert _load(tmp_path, f"{HEAD}{more}\n{PACKAGED}")[0].revision != before


def test_what_does_not_change_pixels_is_the_same_revision(tmp_path: Path) -> None:
    before = _load(tmp_path, HEAD + PACKAGED)[0].revision
    assert _load(tmp_path, f"{HEAD}licence = 'MIT'\n{PACKAGED}")[0].revision == before
    assert _load(tmp_path, HEAD + PACKAGED.replace(DIGEST, "cd" * 32))[0].revision != before
