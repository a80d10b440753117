"""Settings: TOML < environment < command line, each checked."""

from pathlib import Path

import pytest

from calotype.errors import InvalidSettingError
from calotype.settings import Settings, load_settings


def test_the_later_beats_the_earlier(tmp_path: Path) -> None:
    file = tmp_path / "calotype.toml"
    file.write_text("port = 1\nqueue_size = 1\njpeg_quality = 1\n")
    environ = {"CALOTYPE_PORT": "2", "CALOTYPE_QUEUE_SIZE": "2", "OTHER": "x"}
    found = load_settings({"port": 3, "host": None}, file, environ)
    assert (found.port, found.queue_size, found.jpeg_quality) == (3, 2, 1)
    assert found.host == Settings().host


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("no", False)])
def test_booleans_from_the_environment(text: str, value: object) -> None:
    assert load_settings({}, None, {"CALOTYPE_INSECURE": text}).insecure is value


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"port": "http"}, "port must be an integer, got 'http'"),
        ({"port": 70000}, "port must be in \\[0, 65535\\], got 70000"),
        ({"queue_size": 0}, "queue_size must be in"),
        ({"hold_s": "soon"}, "hold_s must be a number"),
        ({"deadline_s": "inf"}, "deadline_s must be finite, got inf"),
        ({"drain_s": float("nan")}, "drain_s must be finite"),
        ({"insecure": "maybe"}, "insecure must be true or false"),
        ({"precision": "f16"}, "precision must be one of auto, bf16, f32, got 'f16'"),
        ({"max_pixels": 0}, "max_pixels must be at least 1"),
        ({"host": 5}, "host must be of type str"),
        ({"colour": 1}, "unknown setting 'colour'"),
        ({"port": True}, "port must be of type int"),
    ],
)
def test_wrong_values_are_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidSettingError, match=says):
        load_settings(values, None, {})


@pytest.mark.parametrize("content", ["port = ", "\xff"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "calotype.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidSettingError, match=r"cannot read settings from .*calotype\.toml"):
        load_settings({}, file, {})


def test_folders_follow_the_settings(tmp_path: Path) -> None:
    found = load_settings({"data_dir": str(tmp_path)}, None, {})
    assert found.models_path == tmp_path / "models"
    assert load_settings({"models_dir": "/m"}, None, {}).models_path == Path("/m")
    assert Settings().cache_path.name == "calotype"


def test_a_misspelt_variable_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert load_settings({}, None, {"CALOTYPE_PROT": "8"}) == Settings()
    assert "CALOTYPE_PROT is in the environment and is no setting" in caplog.text
