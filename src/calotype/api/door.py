"""What tells callers, and counts them: of one server, or of all that share a store."""

import logging
from dataclasses import dataclass

from calotype.api.address import is_loopback
from calotype.api.auth import Authenticator
from calotype.api.limits import Limiter, RateLimiter
from calotype.api.shared_limits import SharedLimiter
from calotype.api.shared_tokens import SharedTokens, TokenCopy
from calotype.api.token import TokenDesk
from calotype.api.tokens import TokenStore
from calotype.errors import InvalidSettingError, StoreUnavailableError
from calotype.settings import Settings
from calotype.store.client import Store

logger = logging.getLogger(__name__)

TOKENS_FILE = "tokens.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What stands between a server and its callers."""

    authenticator: Authenticator
    limiter: Limiter
    copy: TokenCopy | None
    """To be kept up to date, where the tokens are in a store."""


def make_door(settings: Settings, store: Store | None, *, closed: bool = False) -> Door:
    """Choose where tokens are looked up, and requests counted.

    Args:
        settings: what the operator decided.
        store: where several servers have their tokens.
        closed: there are tokens in it, whatever it says.

    Raises:
        InvalidSettingError: the token file is damaged.
    """
    file, local = token_file(settings), RateLimiter()
    if store is None:
        return Door(authenticator=Authenticator(file), limiter=local, copy=None)
    copy = TokenCopy(store)
    authenticator = Authenticator(copy, closed=closed or _is_closed(settings, file))
    return Door(authenticator=authenticator, limiter=SharedLimiter(store, local), copy=copy)


def token_file(settings: Settings) -> TokenStore:
    """Return the tokens of a server that is alone."""
    return TokenStore(settings.data_path / TOKENS_FILE)


def token_desk(settings: Settings) -> TokenDesk:
    """Return where tokens are made and revoked."""
    return SharedTokens(settings.store_url) if settings.store_url else token_file(settings)


def has_tokens(settings: Settings, *, unknown: bool = True) -> bool:
    """Tell whether callers need a token; before there is an event loop.

    Args:
        settings: what the operator decided.
        unknown: the answer where the store doesn't tell.

    Raises:
        InvalidSettingError: the tokens can't be read.
    """
    try:
        return not token_desk(settings).is_empty()
    except StoreUnavailableError as error:
        logger.warning("%s: until it has told the tokens, nobody is let in", error)
        return unknown


def check_shared(settings: Settings) -> None:
    """Refuse tokens that servers on other machines would not see, and so would let everybody in.

    Raises:
        InvalidSettingError: there are some, or there have to be, and there is no store.
    """
    if settings.store_url or settings.insecure:
        return
    if not token_file(settings).is_empty():
        raise InvalidSettingError(
            "the tokens are in a file of this machine, which other nodes don't see: set store_url,"
            " and take them along with `calotype token copy`"
        )
    if not is_loopback(settings.host):
        raise InvalidSettingError(
            f"host {settings.host} can be reached from other machines, and there is no store with"
            " tokens: set store_url, or insecure to let everybody in"
        )


def _is_closed(settings: Settings, file: TokenStore) -> bool:
    """Tell whether a server stays closed though there is no token in its store, or none is known.

    A store that is away, or has lost its tokens, must open nothing that was closed.
    """
    if not file.is_empty():
        logger.warning(
            "tokens are looked up in the store, not in the file: `calotype token copy` copies them"
        )
        return True
    return not settings.insecure and not is_loopback(settings.host)
