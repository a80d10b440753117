"""The tokens that open several servers, kept in the store that they share."""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from calotype.api.token import Token, TokenDesk, Version, name_unknown, utc_now
from calotype.errors import InvalidSettingError, StoreUnavailableError
from calotype.store.client import Store
from calotype.store.script import run_script

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.25
"""How often a server asks whether the tokens have changed."""

_TABLE, _VERSION = "{tokens}:table", "{tokens}:version"
# A random version, not a count: after the store has lost everything, none comes again.
_CREATE = """
local is_new = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
if is_new == 1 then redis.call('SET', KEYS[2], ARGV[3]) end
return is_new
"""
_REVOKE = """
local gone = redis.call('HDEL', KEYS[1], ARGV[1])
if gone == 1 then redis.call('SET', KEYS[2], ARGV[2]) end
return gone
"""

_Tokens = list[Token]  # a class below has a method named `list`


class SharedTokens(TokenDesk):
    """The tokens in a store, for commands: every method connects anew.

    Args:
        url: of the store.
        now: wall clock, for ``Token.created_at``.
    """

    def __init__(self, url: str, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now)
        self._url = url

    def add(self, hashed: bytes, token: Token) -> bool:
        """Keep a token by the hash of its secret; False if there is one of its name."""
        return bool(self._change(_CREATE, token.name, _written(hashed, token)))

    def revoke(self, name: str) -> None:
        """Delete the token of that name.

        Raises:
            InvalidSettingError: there is none.
            StoreUnavailableError: the store does not answer.
        """
        if not self._change(_REVOKE, name):
            raise name_unknown(name)

    def is_empty(self) -> bool:
        """Whether there is no token."""
        return not self.list()

    def list(self) -> _Tokens:
        """Return every token, in the order of their names.

        Raises:
            InvalidSettingError: one of them can't be read.
            StoreUnavailableError: the store does not answer.
        """
        return [*self._do(_read).values()]

    def _change(self, script: str, *args: str) -> int:
        async def change(store: Store) -> int:
            keys = (store.key(_TABLE), store.key(_VERSION))
            return int(await run_script(store, script, keys, *args, secrets.token_hex(8)))

        return self._do(change)

    def _do(self, work: Callable[[Store], Awaitable[T]]) -> T:
        async def connected() -> T:
            store = Store(self._url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(connected())


class TokenCopy:
    """What a server knows of the tokens in its store, so that no request has to ask.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version: Version | None = None
        self._tokens: dict[bytes, Token] | None = None

    def version(self) -> Version | None:
        """Return what differs whenever the tokens have changed."""
        return self._version

    def by_hash(self) -> dict[bytes, Token]:
        """Return every token by the hash of its secret.

        Raises:
            StoreUnavailableError: they have not been read yet.
        """
        if self._tokens is None:
            raise StoreUnavailableError("the tokens have not been read yet", retry_after_s=1.0)
        return self._tokens

    async def follow(self) -> None:
        """Keep the copy as new as the store lets it be, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Read the tokens, if they have changed and the store answers."""
        try:
            key = self._store.key(_VERSION)
            version = await self._store.ask(lambda client: client.get(key))
            if version == self._version and self._tokens is not None:
                return
            self._tokens = await _read(self._store)
        except StoreUnavailableError:
            return  # whoever had a token keeps it
        except InvalidSettingError as error:
            logger.error("going on with the tokens known so far: %s", error)  # noqa: TRY400
        self._version = version  # what is damaged is told once for each change


async def _read(store: Store) -> dict[bytes, Token]:
    """Return every token, in the order of the names, by the hash of its secret."""
    key = store.key(_TABLE)
    found = await store.ask(lambda client: client.hgetall(key))
    try:
        tokens = [_token(name, text) for name, text in found.items()]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidSettingError(
            f"the tokens in the store, key {key}, are damaged: restore them, or delete the key and"
            " create the tokens anew"
        ) from error
    return dict(sorted(tokens, key=lambda item: item[1].name))


def _written(hashed: bytes, token: Token) -> str:
    return json.dumps(
        {
            "hash": hashed.hex(),
            "models": token.models,
            "scopes": token.scopes,
            "rate_per_minute": token.rate_per_minute,
            "created_at": token.created_at.isoformat(),
            "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
        }
    )


def _token(name: bytes | str, text: bytes | str) -> tuple[bytes, Token]:
    found = json.loads(text)
    expires_at = found["expires_at"]
    return bytes.fromhex(found["hash"]), Token(
        name=name.decode() if isinstance(name, bytes) else name,
        models=tuple(found["models"]),
        scopes=tuple(found["scopes"]),
        rate_per_minute=found["rate_per_minute"],
        created_at=datetime.fromisoformat(found["created_at"]),
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
    )
