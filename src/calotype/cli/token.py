"""``calotype token``: who may use the server."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import click

from calotype.api.door import token_desk, token_file
from calotype.api.shared_tokens import SharedTokens
from calotype.api.token import SCOPES, Token, utc_now
from calotype.assembly import open_catalog
from calotype.cli.options import FOLDERS, read_settings, setting_options
from calotype.cli.table import aligned
from calotype.errors import InvalidSettingError
from calotype.settings import Settings

_SPAN = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_UNITS = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
CREATE_HELP = """Create a token and print its secret, once.

\b
Examples:
  calotype token create laptop
  calotype token create website --model 'xinntao/*' --rate 60 --expires 90d
  calotype token create ops --scope run --scope admin

As soon as there is one token, every request needs one; a running server notices at once.
"""


COPY_HELP = """Copy the tokens of the file into the store.

A server with a store knows the tokens of the store only: run this once when it gets one. Secrets
stay the same; a token whose name is taken in the store is left alone.
"""
OPTIONS = (*FOLDERS, "store_url")
"""What says where the tokens are."""


LAST_ONE = (
    "warning: that was the last one: a server that starts from now on needs no token;"
    " one that runs stays closed until it is started again"
)


@click.group(
    name="token", short_help="Create, list, revoke and copy the tokens that open a server."
)
def command() -> None:
    """Create, list, revoke and copy the tokens that open a server."""


@command.command(name="create", help=CREATE_HELP, short_help="Create a token.")
@click.argument("name")
@click.option(
    "--model", "models", multiple=True, metavar="ID",
    help="Allow only this model, an id, alias or pattern; repeat it.  [default: all]",
)  # fmt: skip
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("run",),
    help="Allow to run models, or to operate the server; repeat it.  [default: run]",
)  # fmt: skip
@click.option("--rate", type=int, metavar="N", help="Requests a minute.  [default: any number]")
@click.option("--expires", metavar="WHEN", help="In 12h, 30d, 8w, 1y, or on a day: 2027-01-01.")
@setting_options(*OPTIONS)
def create_token(
    name: str,
    *,
    models: tuple[str, ...],
    scopes: tuple[str, ...],
    rate: int | None,
    expires: str | None,
    **given: object,
) -> None:
    """Create a token."""
    settings = read_settings(given)
    expires_at = parse_expiry(expires, utc_now()) if expires else None
    _warn_unknown(settings, models)
    secret = token_desk(settings).create(
        name,
        models=models,
        scopes=dict.fromkeys(scopes),
        rate_per_minute=rate,
        expires_at=expires_at,
    )
    click.echo(secret)
    click.echo(
        "Keep it: it can't be shown again. Use it as\n"
        f"  curl -H 'Authorization: Bearer {secret[:9]}...' --data-binary @photo.jpg URL\n"
        f"  InferenceClient(base_url=URL, token='{secret[:9]}...')",
        err=True,
    )


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options(*OPTIONS)
def list_tokens(*, as_json: bool, **given: object) -> None:
    """List the tokens, without their secrets."""
    tokens = token_desk(read_settings(given)).list()
    if as_json:
        click.echo(json.dumps([_described(token) for token in tokens], indent=2))
    elif not tokens:
        click.echo("no tokens: the server is open to whoever reaches it")
    else:
        head = ("NAME", "SCOPES", "MODELS", "RATE", "CREATED", "EXPIRES")
        click.echo(aligned(head, [_row(token, utc_now()) for token in tokens]))


@command.command(name="revoke")
@click.argument("name")
@setting_options(*OPTIONS)
def revoke_token(name: str, **given: object) -> None:
    """Revoke a token: from now on it opens nothing."""
    store = token_desk(read_settings(given))
    store.revoke(name)
    click.echo(f"token {name} is revoked", err=True)
    if store.is_empty():
        click.echo(LAST_ONE, err=True)


@command.command(
    name="copy", help=COPY_HELP, short_help="Copy the tokens of the file into the store."
)
@setting_options(*OPTIONS)
def copy_tokens(**given: object) -> None:
    """Copy the tokens of the file into the store."""
    settings = read_settings(given)
    if not settings.store_url:
        raise InvalidSettingError("store_url must name the store to copy the tokens into")
    shared = SharedTokens(settings.store_url)
    for hashed, token in token_file(settings).by_hash().items():
        done = "is copied" if shared.add(hashed, token) else "is in the store already"
        click.echo(f"token {token.name} {done}", err=True)


def parse_expiry(text: str, now: datetime) -> datetime:
    """Read ``30d`` or ``2027-01-01``.

    Args:
        text: hours, days, weeks or years from now, or a day, or a day and time, in UTC if no
            zone is said.
        now: the time.

    Raises:
        InvalidSettingError: neither, or in the past.
    """
    try:
        if match := _SPAN.fullmatch(text.strip().lower()):
            when = now + int(match[1]) * _UNITS[match[2]]
        else:
            when = datetime.fromisoformat(text.strip())
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidSettingError(
            f"expires must be a span such as 30d or a day such as 2027-01-01, got {text!r}"
        ) from None
    if when <= now:
        raise InvalidSettingError(f"expires must be in the future, got {text!r}")
    return when


def _warn_unknown(settings: Settings, patterns: Iterable[str]) -> None:
    """Warn of a pattern that allows nothing, which is a slip more often than a plan."""
    if not patterns:
        return
    names = {name for spec in open_catalog(settings).all() for name in (spec.id, spec.alias)}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names if name):
            click.echo(f"warning: no model is called {pattern} now", err=True)


def _described(token: Token) -> dict[str, object]:
    """Describe a token as JSON."""
    return {
        "name": token.name,
        "scopes": token.scopes,
        "models": token.models,
        "rate_per_minute": token.rate_per_minute,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }


def _row(token: Token, now: datetime) -> tuple[str, ...]:
    """Describe a token in a table."""
    expires = "never" if token.expires_at is None else f"{token.expires_at:%Y-%m-%d %H:%M}"
    if token.expires_at is not None and token.expires_at <= now:
        expires += " (expired)"
    return (
        token.name,
        ",".join(token.scopes),
        ",".join(token.models) or "all",
        "any" if token.rate_per_minute is None else f"{token.rate_per_minute}/min",
        f"{token.created_at:%Y-%m-%d}",
        expires,
    )
