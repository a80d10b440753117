import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result

from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from calotype.cli.token import parse_expiry
from calotype.errors import InvalidSettingError
from redis_server import RedisServer

Invoke = Callable[..., Result]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_token_from_making_to_revoking(invoke: Invoke, home: Path) -> None:
    assert "no tokens: the server is open" in invoke("token", "list").stdout
    made = invoke(
        *("token", "create", "web", "--model", "test/*", "--rate", "60", "--expires", "30d"),
        *("--scope", "run", "--scope", "admin"),
    )
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("calo_")
    assert "Authorization: Bearer" in made.stderr
    assert secret not in made.stderr
    token = TokenStore(home / "data" / TOKENS_FILE).find(secret)
    assert token is not None
    assert (token.models, token.scopes, token.rate_per_minute) == (
        ("test/*",),
        ("run", "admin"),
        60,
    )
    listed = invoke("token", "list").stdout
    assert secret not in listed
    assert listed.splitlines()[1].split()[:4] == ["web", "run,admin", "test/*", "60/min"]
    assert json.loads(invoke("token", "list", "--json").stdout)[0]["name"] == "web"
    revoked = invoke("token", "revoke", "web")
    assert "token web is revoked" in revoked.stderr
    assert "that was the last one" in revoked.stderr


def test_the_tokens_of_a_store(invoke: Invoke, home: Path, redis_server: RedisServer) -> None:
    store = ("--store-url", redis_server.url)
    old = invoke("token", "create", "old").stdout.strip()
    assert "no tokens" in invoke("token", "list", *store).stdout
    assert invoke("token", "create", "new", *store).exit_code == 0
    assert "token old is copied" in invoke("token", "copy", *store).stderr
    assert "token old is in the store already" in invoke("token", "copy", *store).stderr
    listed = json.loads(invoke("token", "list", "--json", *store).stdout)
    assert [each["name"] for each in listed] == ["new", "old"]
    assert "token old is revoked" in invoke("token", "revoke", "old", *store).stderr
    assert TokenStore(home / "data" / TOKENS_FILE).find(old) is not None
    redis_server.stop()
    away = invoke("token", "list", *store)
    assert (away.exit_code, away.stderr) == (1, "error: the shared store does not answer\n")


def test_copying_needs_a_store(invoke: Invoke) -> None:
    result = invoke("token", "copy")
    assert result.exit_code == 2
    assert "store_url must name the store" in result.stderr


def test_a_name_that_is_taken(invoke: Invoke) -> None:
    invoke("token", "create", "a")
    result = invoke("token", "create", "a")
    assert result.exit_code == 2
    assert "error: a token named 'a' exists" in result.stderr


def test_revoking_what_is_not_there(invoke: Invoke) -> None:
    result = invoke("token", "revoke", "a")
    assert result.exit_code == 2
    assert "there is no token named 'a'" in result.stderr


def test_a_model_that_nobody_knows_is_warned_of(invoke: Invoke) -> None:
    result = invoke("token", "create", "a", "--model", "ecco", "--model", "echo")
    assert result.exit_code == 0
    assert "warning: no model is called ecco now" in result.stderr
    assert result.stderr.count("warning") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12h", NOON + timedelta(hours=12)),
        ("30d", NOON + timedelta(days=30)),
        ("2W", NOON + timedelta(days=14)),
        ("1y", NOON + timedelta(days=365)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T10:00+02:00", datetime(2027, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_when_a_token_expires(text: str, expected: datetime) -> None:
    assert parse_expiry(text, NOON) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "expires must be a span such as 30d or a day such as 2027-01-01, got 'soon'"),
        ("0d", "expires must be a span"),
        ("999999y", "expires must be a span"),
        ("2026-05-01", "expires must be in the future, got '2026-05-01'"),
    ],
)
def test_a_wrong_expiry(text: str, message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        parse_expiry(text, NOON)
