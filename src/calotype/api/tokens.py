"""The tokens that open this server, kept in one small SQLite file."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from calotype.api.token import Token, TokenDesk, hash_secret, name_unknown, utc_now
from calotype.errors import InvalidSettingError

_APPLICATION_ID = 0x63616C6F  # "calo": tells our file from another program's
_LOCK_TIMEOUT_S = 1.0
_COUNTER = slice(24, 28)
"""Where SQLite counts the transactions that changed the file.

Source:
    https://www.sqlite.org/fileformat.html#file_change_counter
"""
_TABLE = """
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    models TEXT NOT NULL,
    scopes TEXT NOT NULL,
    rate_per_minute INTEGER,
    created_at TEXT NOT NULL,
    expires_at TEXT
)
"""
_COLUMNS = "hash, name, models, scopes, rate_per_minute, created_at, expires_at"

_Tokens = list[Token]  # the class below has a method named `list`


class TokenStore(TokenDesk):
    """The tokens in a file; a file that doesn't exist holds none.

    Every method opens the file anew, so that commands and servers may share it.

    Args:
        path: made, with mode 0600, when the first token is created.
        now: wall clock, for ``Token.created_at``.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now)
        self._path = path

    def add(self, hashed: bytes, token: Token) -> bool:
        """Keep a token by the hash of its secret; False if there is one of its name.

        Raises:
            InvalidSettingError: the file cannot be used.
        """
        row = (
            hashed,
            token.name,
            json.dumps(token.models),
            json.dumps(token.scopes),
            token.rate_per_minute,
            token.created_at.isoformat(),
            None if token.expires_at is None else token.expires_at.isoformat(),
        )
        self._make_file()
        with self._opened(writing=True) as db:
            try:
                db.execute(f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            except sqlite3.IntegrityError:
                return False
        return True

    def revoke(self, name: str) -> None:
        """Delete the token of that name.

        Raises:
            InvalidSettingError: there is none, or the file cannot be used.
        """
        gone = 0
        if self.version() is not None:
            with self._opened(writing=True) as db:
                gone = db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount
        if not gone:
            raise name_unknown(name)

    def find(self, secret: str) -> Token | None:
        """Return the token of that secret, expired or not, or None."""
        return self.by_hash().get(hash_secret(secret))

    def is_empty(self) -> bool:
        """Whether there is no token, so that the server is open."""
        return not self.by_hash()

    def by_hash(self) -> dict[bytes, Token]:
        """Return every token, in the order of the names, by the hash of its secret.

        Raises:
            InvalidSettingError: the file cannot be used.
        """
        if self.version() is None:
            return {}
        with self._opened() as db:
            try:
                rows = db.execute(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")  # noqa: S608
                return {bytes(row[0]): _token(row[1:]) for row in rows}
            except (ValueError, TypeError) as exc:
                raise self._damaged() from exc

    def version(self) -> tuple[int, int, int, bytes] | None:
        """Return time stamp (ns), size and inode of the file, and SQLite's count of its changes.

        None when there is no file.

        Raises:
            InvalidSettingError: the file cannot be read.
        """
        try:
            with self._path.open("rb") as stream:
                # The clock of a file system may stand still for some ms: two changes of equal
                # size can bear one time stamp, so SQLite's own counter is part of this.
                counter = stream.read(_COUNTER.stop)[_COUNTER]
                found = os.fstat(stream.fileno())
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._unusable(exc) from exc
        return found.st_mtime_ns, found.st_size, found.st_ino, counter

    def list(self) -> _Tokens:
        """Return every token, in the order of their names."""
        return [*self.by_hash().values()]

    def _make_file(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before SQLite would, whose mode is 0644; its journal takes the mode of this file.
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as exc:
            raise self._unusable(exc) from exc

    @contextlib.contextmanager
    def _opened(self, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; translate what SQLite raises."""
        # mode=rw makes no file, and falls back to reading one that is write-protected.
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        try:
            with contextlib.closing(
                sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
            ) as db:
                db.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
                self._check_owner(db, writing=writing)
                yield db
                db.execute("COMMIT")  # closing without it rolls back
        except sqlite3.OperationalError as exc:
            raise self._unusable(exc) from exc
        except sqlite3.DatabaseError as exc:
            raise self._damaged() from exc

    def _check_owner(self, db: sqlite3.Connection, *, writing: bool) -> None:
        (owner,) = db.execute("PRAGMA application_id").fetchone()
        if owner == _APPLICATION_ID:
            return
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        # An empty file is new to a writer. To a reader it is a damaged one: to take it for "no
        # tokens" would open the server.
        if not writing or owner or tables:
            raise self._damaged()
        db.execute(_TABLE)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _unusable(self, exc: Exception) -> InvalidSettingError:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        return InvalidSettingError(f"the token file {self._path} cannot be used: {reason}")

    def _damaged(self) -> InvalidSettingError:
        return InvalidSettingError(
            f"{self._path} is damaged, or no token file: restore it from a backup, or delete it"
            " and create the tokens anew"
        )


def _token(row: Sequence[Any]) -> Token:
    name, models, scopes, rate_per_minute, created_at, expires_at = row
    return Token(
        name=name,
        models=tuple(json.loads(models)),
        scopes=tuple(json.loads(scopes)),
        rate_per_minute=rate_per_minute,
        created_at=datetime.fromisoformat(created_at),
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
    )
