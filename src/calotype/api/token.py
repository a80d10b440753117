"""What a token is, and how it is hidden.

A token is a random secret of 256 bits, so one round of SHA-256 hides it: a slow, salted hash
protects guessable passwords, and here there is nothing to guess.
"""

import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from calotype.errors import InvalidSettingError

SCOPES = ("run", "admin")
"""What a token may allow: to run models, and to operate the server."""

PREFIX = "calo_"
"""How every secret begins, for people and for scanners of leaked secrets."""

_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Version = object
"""What differs whenever the tokens have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token allows; never the secret itself."""

    name: str
    models: tuple[str, ...] = ()
    """Ids, aliases or patterns such as ``xinntao/*``; empty means every model."""
    scopes: tuple[str, ...] = ("run",)
    rate_per_minute: int | None = None
    """Requests a minute; None means as many as it likes."""
    created_at: datetime
    expires_at: datetime | None = None


class TokenTable(Protocol):
    """What a server knows of its tokens."""

    def version(self) -> Version | None:
        """Return what differs whenever the tokens have changed; None when there are none.

        Raises:
            InvalidSettingError: they cannot be read.
        """
        ...

    def by_hash(self) -> dict[bytes, Token]:
        """Return every token by the hash of its secret.

        Raises:
            InvalidSettingError: they cannot be read.
            StoreUnavailableError: they have not been read yet.
        """
        ...


_Tokens = list[Token]  # the class below has a method named `list`


class TokenDesk(ABC):
    """Where operators make and revoke tokens.

    Args:
        now: wall clock, for ``Token.created_at``.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def create(
        self,
        name: str,
        *,
        models: Iterable[str] = (),
        scopes: Iterable[str] = ("run",),
        rate_per_minute: int | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Create a token and return its secret, which cannot be had again.

        Args:
            name: unique; 1-64 of A-Z, a-z, 0-9, ``.``, ``_`` and ``-``.
            models: ids, aliases or patterns such as ``xinntao/*``; none means every model.
            scopes: of ``SCOPES``.
            rate_per_minute: requests a minute, at least 1; None means no limit.
            expires_at: with a time zone; None means never.

        Raises:
            InvalidSettingError: the name is taken, a value is out of range, or the tokens cannot
                be used.
            StoreUnavailableError: the store does not answer.
        """
        if expires_at is not None and expires_at.tzinfo is None:
            raise ValueError(f"expires_at must have a time zone, got {expires_at}")
        token = Token(
            name=name,
            models=tuple(models),
            scopes=tuple(scopes),
            rate_per_minute=rate_per_minute,
            created_at=self._now().astimezone(UTC),
            expires_at=None if expires_at is None else expires_at.astimezone(UTC),
        )
        _check(token)
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        if not self.add(hash_secret(secret), token):
            raise InvalidSettingError(
                f"a token named {name!r} exists: choose another name, or run"
                f" `calotype token revoke {name}` first"
            )
        return secret

    @abstractmethod
    def add(self, hashed: bytes, token: Token) -> bool:
        """Keep a token by the hash of its secret; False if there is one of its name."""

    @abstractmethod
    def revoke(self, name: str) -> None:
        """Delete the token of that name.

        Raises:
            InvalidSettingError: there is none, or the tokens cannot be used.
            StoreUnavailableError: the store does not answer.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is no token, so that a server is open."""

    @abstractmethod
    def list(self) -> _Tokens:
        """Return every token, in the order of their names."""


def utc_now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def name_unknown(name: str) -> InvalidSettingError:
    """Return what is told to who revokes a token that doesn't exist."""
    return InvalidSettingError(
        f"there is no token named {name!r}: `calotype token list` shows their names"
    )


def _check(token: Token) -> None:
    """Refuse a token with a value that is out of range.

    Raises:
        InvalidSettingError: that value.
    """
    if not _NAME.fullmatch(token.name):
        raise InvalidSettingError(
            "a token's name must be 1-64 of letters, digits, '.', '_' and '-', and begin with a"
            f" letter or digit, got {token.name!r}"
        )
    if not all(token.models):
        raise InvalidSettingError(f"a token's models must not be empty texts, got {token.models!r}")
    if not token.scopes or not set(token.scopes) <= set(SCOPES):
        allowed, got = ", ".join(SCOPES), ", ".join(token.scopes) or "none"
        raise InvalidSettingError(f"a token's scopes must be one or more of {allowed}, got {got}")
    rate = token.rate_per_minute
    if rate is not None and rate < 1:
        raise InvalidSettingError(f"rate_per_minute must be at least 1, got {rate}")
