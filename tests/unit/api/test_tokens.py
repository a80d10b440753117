import re
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from calotype.api.token import Token, hash_secret
from calotype.api.tokens import TokenStore
from calotype.errors import InvalidSettingError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def store(folder: Path) -> TokenStore:
    return TokenStore(folder / "deep" / "tokens.db", now=lambda: NOON)


def test_a_missing_file_holds_no_tokens_and_is_not_made(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    assert tokens.is_empty()
    assert tokens.list() == []
    assert tokens.find("calo_x") is None
    assert tokens.version() is None
    with pytest.raises(InvalidSettingError, match="no token named 'x'"):
        tokens.revoke("x")
    assert list(tmp_path.iterdir()) == []


def test_creates_and_finds(tmp_path: Path) -> None:
    expires_at = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    secret = store(tmp_path).create(
        "ci",
        models=["xinntao/*"],
        scopes=["run", "admin"],
        rate_per_minute=5,
        expires_at=expires_at,
    )
    again = store(tmp_path)
    assert not again.is_empty()
    assert again.find(secret) == Token(
        name="ci",
        models=("xinntao/*",),
        scopes=("run", "admin"),
        rate_per_minute=5,
        created_at=NOON,
        expires_at=expires_at,
    )
    assert again.find(secret + "x") is None


def test_the_defaults_allow_to_run_every_model(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    assert tokens.find(tokens.create("a")) == Token(name="a", created_at=NOON)


def test_the_secret_is_long_and_random_and_not_stored(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    made = {tokens.create(f"t{number}") for number in range(5)}
    assert len(made) == 5
    data = (tmp_path / "deep" / "tokens.db").read_bytes()
    for secret in made:
        assert re.fullmatch(r"calo_[A-Za-z0-9_-]{32,}", secret)
        assert secret.encode() not in data
        assert hash_secret(secret) in data


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store(tmp_path).create("a")
    folder = tmp_path / "deep"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "tokens.db").stat().st_mode) == 0o600


def test_lists_by_name(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    for name in ("b", "c", "a"):
        tokens.create(name)
    assert [token.name for token in tokens.list()] == ["a", "b", "c"]


def test_revokes(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    secret = tokens.create("a")
    tokens.create("b")
    tokens.revoke("a")
    assert tokens.find(secret) is None
    assert [token.name for token in tokens.list()] == ["b"]
    with pytest.raises(InvalidSettingError, match="no token named 'a'"):
        tokens.revoke("a")


def test_a_name_is_unique(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    secret = tokens.create("a")
    with pytest.raises(InvalidSettingError, match="calotype token revoke a"):
        tokens.create("a", scopes=("admin",))
    token = tokens.find(secret)
    assert token is not None
    assert token.scopes == ("run",)


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a\n", "é", "a" * 65, "a/b"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettingError, match="name must be"):
        store(tmp_path).create(name)
    assert list(tmp_path.iterdir()) == []


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    with pytest.raises(InvalidSettingError, match="got ruin"):
        tokens.create("a", scopes=("ruin",))
    with pytest.raises(InvalidSettingError, match="got none"):
        tokens.create("a", scopes=())
    with pytest.raises(InvalidSettingError, match="at least 1, got 0"):
        tokens.create("a", rate_per_minute=0)
    with pytest.raises(InvalidSettingError, match="empty"):
        tokens.create("a", models=("",))
    with pytest.raises(ValueError, match="time zone"):
        tokens.create("a", expires_at=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "data", [b"", b"no database at all, but long enough to tell", b"\0" * 4096]
)
def test_a_damaged_file_is_an_error_not_an_open_server(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokens.db"
    path.write_bytes(data)
    with pytest.raises(InvalidSettingError, match="damaged"):
        TokenStore(path).is_empty()


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    tokens.create("a")
    path = tmp_path / "deep" / "tokens.db"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidSettingError, match=re.escape(str(path))):
        tokens.list()


@pytest.mark.parametrize(
    "change",
    ["models = '5'", "models = '{'", "created_at = 'noon'", "hash = 5.5", "scopes = x'ff'"],
)
def test_a_spoilt_row_is_an_error(tmp_path: Path, change: str) -> None:
    tokens = store(tmp_path)
    tokens.create("a")
    with closing(sqlite3.connect(tmp_path / "deep" / "tokens.db")) as db, db:
        db.execute(f"UPDATE tokens SET {change}")  # noqa: S608
    with pytest.raises(InvalidSettingError, match="damaged"):
        tokens.list()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE places (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(InvalidSettingError, match="no token file"):
        TokenStore(path).create("a")
    with pytest.raises(InvalidSettingError, match="no token file"):
        TokenStore(path).list()
    assert path.read_bytes() == before


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file" / "tokens.db"):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InvalidSettingError, match="cannot be used"):
            TokenStore(path).create("a")
        with pytest.raises(InvalidSettingError, match="cannot be used"):
            TokenStore(path).list()


def test_an_empty_file_left_by_a_crash_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    path.write_bytes(b"")
    TokenStore(path).create("a")
    assert not TokenStore(path).is_empty()


def test_odd_paths_work(tmp_path: Path) -> None:
    tokens = TokenStore(tmp_path / "a?mode=memory#é %41.db")
    assert tokens.find(tokens.create("a")) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["a?mode=memory#é %41.db"]


def test_the_version_changes_with_every_change_even_if_the_clock_stands_still(
    tmp_path: Path,
) -> None:
    tokens = store(tmp_path)
    versions = [tokens.version()]
    for name in ("a", "b"):
        tokens.create(name)
        versions.append(tokens.version())
    tokens.revoke("a")
    versions.append(tokens.version())
    counters = [version[3] for version in versions if version is not None]
    assert len(counters) == len(set(counters)) == 3
    assert tokens.version() == versions[-1]


def test_many_may_create_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    # Each call opens the file anew, so threads meet at SQLite's locks as processes do.
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(TokenStore(path).create, f"t{number}") for number in range(12)]
    assert len({future.result(timeout=10) for future in made}) == 12
    assert len(TokenStore(path).list()) == 12
