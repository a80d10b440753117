from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calotype.api.auth import CHECK_EVERY_S, Authenticator, Caller, require
from calotype.api.token import Token, Version
from calotype.api.tokens import TokenStore
from calotype.errors import ForbiddenError, InvalidSettingError, UnauthorizedError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SEEMS_INVALID = "^Authorization header is correct, but the token seems invalid$"
MODEL = "xinntao/realesrgan-x4plus"


class Desk:
    """An authenticator whose clocks the test turns."""

    def __init__(self, folder: Path) -> None:
        self.clock_s = 100.0
        self.now = NOON
        self.path = folder / "tokens.db"
        self.store = TokenStore(self.path)

    def open(self) -> Authenticator:
        return Authenticator(self.store, clock=lambda: self.clock_s, now=lambda: self.now)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def caller(*, models: tuple[str, ...] = (), scopes: tuple[str, ...] = ("run",)) -> Caller:
    return Caller("ci", Token(name="ci", models=models, scopes=scopes, created_at=NOON))


@pytest.mark.parametrize("header", [None, "", "Bearer hf_whatever", "Basic eDp5"])
def test_without_tokens_everybody_is_the_operator(desk: Desk, header: str | None) -> None:
    anonymous = desk.open().authenticate(header)
    assert anonymous == Caller("", None)
    assert anonymous.may_run(MODEL)
    assert anonymous.has_scope("admin")


@pytest.mark.parametrize(
    "form", ["Bearer {}", "Bearer: {}", "bearer {}", "BEARER:{}", "  Bearer   {}  ", "Bearer\t{}"]
)
def test_accepts_the_forms_that_clients_send(desk: Desk, form: str) -> None:
    secret = desk.store.create("ci")
    found = desk.open().authenticate(form.format(secret))
    assert found.name == "ci"
    assert found.token == desk.store.find(secret)


@pytest.mark.parametrize(
    "header", [None, "", "  ", "Bearer", "Bearer:", "Basic eDp5", "Bearer a b"]
)
def test_without_a_token_it_says_how_to_send_one(desk: Desk, header: str | None) -> None:
    desk.store.create("ci")
    with pytest.raises(UnauthorizedError, match="send the header 'Authorization: Bearer TOKEN'"):
        desk.open().authenticate(header)


def test_a_wrong_token_gets_the_text_that_clients_match(desk: Desk) -> None:
    secret = desk.store.create("ci")
    for wrong in ("calo_x", secret[:-1], secret.upper(), "é", "\udc80"):
        with pytest.raises(UnauthorizedError, match=SEEMS_INVALID):
            desk.open().authenticate(f"Bearer {wrong}")


def test_the_scheme_must_end_before_the_token(desk: Desk) -> None:
    secret = desk.store.create("ci")
    with pytest.raises(UnauthorizedError):
        desk.open().authenticate(f"Bearer{secret}")


def test_a_token_expires_while_the_server_runs(desk: Desk) -> None:
    header = "Bearer " + desk.store.create("ci", expires_at=NOON + timedelta(minutes=1))
    door = desk.open()
    assert door.authenticate(header).name == "ci"
    desk.now = NOON + timedelta(minutes=1)
    with pytest.raises(UnauthorizedError, match=SEEMS_INVALID):
        door.authenticate(header)


def test_a_server_whose_tokens_all_expired_stays_closed(desk: Desk) -> None:
    desk.store.create("ci", expires_at=NOON - timedelta(minutes=1))
    with pytest.raises(UnauthorizedError):
        desk.open().authenticate(None)


def test_a_revoked_token_is_refused_within_a_second(desk: Desk) -> None:
    header = "Bearer " + desk.store.create("ci")
    desk.store.create("other")
    door = desk.open()
    TokenStore(desk.path).revoke("ci")
    assert door.authenticate(header).name == "ci"
    desk.clock_s += CHECK_EVERY_S
    with pytest.raises(UnauthorizedError, match=SEEMS_INVALID):
        door.authenticate(header)


def test_a_created_token_opens_within_a_second_and_closes_an_open_server(desk: Desk) -> None:
    door = desk.open()
    assert door.authenticate(None).name == ""
    header = "Bearer " + TokenStore(desk.path).create("ci")
    desk.clock_s += CHECK_EVERY_S
    assert door.authenticate(header).name == "ci"
    with pytest.raises(UnauthorizedError):
        door.authenticate(None)


@pytest.mark.parametrize("how", ["revoke", "delete"])
def test_to_lose_the_last_token_does_not_open_a_running_server(desk: Desk, how: str) -> None:
    desk.store.create("ci")
    door = desk.open()
    if how == "revoke":
        desk.store.revoke("ci")
    else:
        desk.path.unlink()
    desk.clock_s += CHECK_EVERY_S
    with pytest.raises(UnauthorizedError):
        door.authenticate(None)
    assert desk.open().authenticate(None).name == ""


def test_a_damaged_file_is_found_at_the_start(desk: Desk) -> None:
    desk.path.write_bytes(b"no database")
    with pytest.raises(InvalidSettingError):
        desk.open()


def test_a_file_damaged_later_keeps_the_known_tokens_until_it_is_repaired(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    header = "Bearer " + desk.store.create("ci")
    door, whole = desk.open(), desk.path.read_bytes()
    desk.path.write_bytes(b"no database")
    desk.clock_s += CHECK_EVERY_S
    assert door.authenticate(header).name == "ci"
    assert "tokens known so far" in caplog.text
    desk.path.write_bytes(whole)
    desk.store.revoke("ci")
    desk.clock_s += CHECK_EVERY_S
    with pytest.raises(UnauthorizedError):
        door.authenticate(header)


def test_the_file_is_read_only_when_it_changed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "Bearer " + desk.store.create("ci")
    door = desk.open()
    reads: list[str] = []

    def version() -> Version | None:
        reads.append("version")
        return TokenStore(desk.path).version()

    def by_hash() -> dict[bytes, Token]:
        reads.append("table")
        return TokenStore(desk.path).by_hash()

    monkeypatch.setattr(desk.store, "version", version)
    monkeypatch.setattr(desk.store, "by_hash", by_hash)
    for _ in range(10):
        door.authenticate(header)
    assert reads == []
    desk.clock_s += CHECK_EVERY_S
    for _ in range(10):
        door.authenticate(header)
    assert reads == ["version"]


def test_a_token_may_run_its_models() -> None:
    assert caller().may_run(MODEL)
    assert caller(models=(MODEL,)).may_run(MODEL)
    assert caller(models=("xinntao/*",)).may_run(MODEL)
    assert caller(models=("other", "upscale")).may_run(MODEL, "upscale")
    assert not caller(models=("other/*",)).may_run(MODEL)
    assert not caller(models=("XINNTAO/*",)).may_run(MODEL)
    assert not caller(models=("upscale",)).may_run(MODEL)
    assert not caller(scopes=("admin",)).may_run(MODEL)


def test_scopes_are_apart() -> None:
    assert caller(scopes=("admin",)).has_scope("admin")
    assert not caller(scopes=("admin",)).has_scope("run")
    assert not caller().has_scope("admin")


def test_require_names_the_model() -> None:
    require(Caller("", None), MODEL)
    require(caller(models=("upscale",)), MODEL, "upscale")
    with pytest.raises(ForbiddenError, match=f"{MODEL}: it is not among"):
        require(caller(models=("other/*",)), MODEL)
    with pytest.raises(ForbiddenError, match=f"{MODEL}: it lacks the scope 'run'"):
        require(caller(scopes=("admin",)), MODEL)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(header=st.text() | st.builds("Bearer {}".format, st.text()))
def test_any_header_is_refused_with_the_one_error(desk: Desk, header: str) -> None:
    if not desk.path.exists():
        desk.store.create("ci")
    with pytest.raises(UnauthorizedError):
        desk.open().authenticate(header)
