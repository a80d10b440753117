"""Who is asking, and what they may do."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from calotype.api.token import Token, TokenTable, Version, hash_secret, utc_now
from calotype.errors import (
    ForbiddenError,
    InvalidSettingError,
    StoreUnavailableError,
    UnauthorizedError,
)

_logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5
"""How old may be what the server knows of the token file."""

# The colon is what some clients of the API send by mistake, and the API lets them.
_BEARER = re.compile(r"\s*bearer(?::\s*|\s+)(\S+)\s*", re.IGNORECASE)

_WRONG = "Authorization header is correct, but the token seems invalid"
_MISSING = "This server needs a token: send the header 'Authorization: Bearer TOKEN'"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str
    """Of the token; empty for anonymous."""
    token: Token | None
    """None: the server has no tokens, and whoever reaches it is its operator."""

    def has_scope(self, scope: str) -> bool:
        """Whether the caller may do that kind of thing."""
        return self.token is None or scope in self.token.scopes

    def may_run(self, model_id: str, alias: str = "") -> bool:
        """Whether the caller may run the model of that id, which may have an alias."""
        return self.has_scope("run") and self._may_see(model_id, alias)

    def _may_see(self, model_id: str, alias: str) -> bool:
        if self.token is None or not self.token.models:
            return True
        return any(
            fnmatchcase(model_id, pattern) or (alias != "" and fnmatchcase(alias, pattern))
            for pattern in self.token.models
        )


def require(caller: Caller, model_id: str, alias: str = "") -> None:
    """Refuse a caller that may not run the model.

    Raises:
        ForbiddenError: its token lacks the scope or the model.
    """
    if not caller.has_scope("run"):
        raise ForbiddenError(
            f"Token {caller.name} may not run model {model_id}: it lacks the scope 'run'"
        )
    if not caller.may_run(model_id, alias):
        raise ForbiddenError(
            f"Token {caller.name} may not run model {model_id}: it is not among the token's models"
        )


def require_admin(caller: Caller, deed: str) -> None:
    """Refuse a caller that does not operate the server.

    Args:
        caller: who asks.
        deed: what for, e.g. ``load models``.

    Raises:
        ForbiddenError: its token lacks the scope.
    """
    if not caller.has_scope("admin"):
        raise ForbiddenError(f"Token {caller.name} may not {deed}: it lacks the scope 'admin'")


class Authenticator:
    """Tell callers by their tokens, from a copy of them in memory.

    The copy is read again when the tokens have changed, so one that another process creates or
    revokes counts within ``CHECK_EVERY_S``. Once there has been a token, the server stays closed
    until it is started again: to lose the file, or to revoke the last token, opens nothing.

    Args:
        table: read at once, so that a damaged file is found at the start.
        closed: whether it opens to nobody without a token, also while there is no token.
        clock: monotonic, seconds.
        now: wall clock, with a time zone, for the expiry.

    Raises:
        InvalidSettingError: the token file cannot be used.
    """

    def __init__(
        self,
        table: TokenTable,
        *,
        closed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._table = table
        self._clock = clock
        self._now = now
        self._checked_s = clock()
        self._version: Version | None = None
        self._tokens: dict[bytes, Token] = {}
        self._keeps_closed = closed
        self._is_read = False
        self._closed = True
        self._read()

    def authenticate(self, header: str | None) -> Caller:
        """Tell who sent a request.

        Args:
            header: value of ``authorization``, or None.

        Raises:
            UnauthorizedError: the server has tokens, and this is none of them or an expired one.
            StoreUnavailableError: the server doesn't know its tokens yet.
        """
        self._refresh()
        if not self._closed:
            return Caller("", None)
        if not self._is_read:
            raise StoreUnavailableError("the tokens have not been read yet", retry_after_s=1.0)
        match = _BEARER.fullmatch(header or "")
        if match is None:
            raise UnauthorizedError(_MISSING)
        # No comparison of secrets, so none to time: how long the lookup of a SHA-256 takes tells
        # nothing that helps to find a text with a given one.
        token = self._tokens.get(hash_secret(match[1]))
        if token is None or (token.expires_at is not None and token.expires_at <= self._now()):
            raise UnauthorizedError(_WRONG)
        return Caller(token.name, token)

    def _refresh(self) -> None:
        clock_s = self._clock()
        if clock_s - self._checked_s < CHECK_EVERY_S and self._is_read:
            return
        self._checked_s = clock_s
        try:
            self._read()
        except InvalidSettingError as exc:
            # Those who had a token keep it while the operator repairs the file.
            _logger.error("going on with the tokens known so far: %s", exc)  # noqa: TRY400

    def _read(self) -> None:
        """Read the tokens, if they have changed.

        Raises:
            InvalidSettingError: they can't be read.
        """
        try:
            # In this order: a change in between shows as another version at the next check.
            version = self._table.version()
            if version == self._version and self._is_read:
                return
            self._tokens = self._table.by_hash()
        except StoreUnavailableError:
            return  # closed until they are read for the first time; then a copy is always there
        self._version, self._is_read = version, True
        self._keeps_closed = self._keeps_closed or bool(self._tokens)
        self._closed = self._keeps_closed
