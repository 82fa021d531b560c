"""Refresh tokens, which clients store instead of a password, in an SQLite file.

A refresh token is random. The file contains only hashes of tokens, so a reader of the file gets no
usable token. Each operation opens the file anew, so several processes on one machine can share it.

Follows: Distribution's "Docker Registry v2 authentication using OAuth2".
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dockhand_core import ConfigError, Identity

__all__ = ["RefreshTokenRecord", "RefreshTokens"]

_PREFIX = "dhr_"  # lets secret scanners recognize a leaked token
_RANDOM_BYTES = 32
_MAX_LENGTH = 128  # characters; a longer text is not a refresh token
_MAX_PER_USER = 1000
_BUSY_TIMEOUT = 5.0  # seconds; the time to wait for another process's lock on the file
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS refresh_tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    user TEXT NOT NULL,
    groups TEXT NOT NULL,
    source TEXT NOT NULL,
    stamp BLOB NOT NULL,
    service TEXT NOT NULL,
    client TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS refresh_tokens_user ON refresh_tokens (user, issued);
"""


@dataclass(frozen=True, slots=True)
class RefreshTokenRecord:
    """The stored information about a refresh token, without the token itself.

    Attributes:
        id: an identifier that is not secret, for listing and revoking the token.
        identity: the user, with the groups that a plugin returned at the login.
        source: the source that authenticated the user: `users` for the htpasswd file, or the name
            of a plugin.
        entry_hash: the hash of the user's entry in the htpasswd file at the login. The token
            becomes invalid when the entry changes.
        service: the name of the registry that the token is for.
        client_id: the name of the client program.
        issued_at, expires_at: times in UTC.
    """

    id: str
    identity: Identity
    source: str
    entry_hash: bytes
    service: str
    client_id: str
    issued_at: datetime
    expires_at: datetime


class RefreshTokens:
    """Issues, finds and revokes refresh tokens in an SQLite file.

    Args:
        path: the SQLite file. If the file does not exist, it is created, and only its owner can
            read it.
        lifetime: the lifetime of new tokens, in seconds.
        clock: returns the time, in seconds since 1970.

    Raises:
        ConfigError: the file cannot be opened, or is not a database of refresh tokens.
    """

    def __init__(self, path: Path, lifetime: int, clock: Callable[[], float] = time.time) -> None:
        self._path, self._lifetime, self._clock = path, lifetime, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with self._open() as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version not in {0, _VERSION}:
                    raise ConfigError(
                        f"refresh_tokens: {path}: written by a newer version of "
                        "dockhand-token-server; upgrade this one, or name another file"
                    )
                if not version:
                    database.executescript(_SCHEMA)
                    database.execute(f"PRAGMA user_version = {_VERSION}")
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"refresh_tokens: {path}: {reason}; name a writable SQLite file, or set "
                "refresh_tokens = false"
            ) from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT)) as database, database:
            yield database

    def issue(
        self, identity: Identity, *, source: str, entry_hash: bytes, service: str, client_id: str
    ) -> str:
        """Create and store a new refresh token, and return the token.

        This also deletes expired tokens, and the oldest tokens if the user has more than 1000.

        Args:
            identity, source, entry_hash, service, client_id: see `RefreshTokenRecord`.
        """
        token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        now = int(self._clock())
        row = (
            secrets.token_hex(8), _hash(token), identity.name, json.dumps(sorted(identity.groups)),
            source, entry_hash, service, client_id, now, now + self._lifetime,
        )  # fmt: skip
        with self._open() as database:
            database.execute("DELETE FROM refresh_tokens WHERE expires <= ?", (now,))
            database.execute("INSERT INTO refresh_tokens VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            database.execute(
                "DELETE FROM refresh_tokens WHERE id IN (SELECT id FROM refresh_tokens "
                "WHERE user = ? ORDER BY issued DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (identity.name, _MAX_PER_USER),
            )
        return token

    def find(self, token: str, service: str) -> RefreshTokenRecord | None:
        """Find a token's record; None if the token is unknown, expired or for another registry."""
        if not token.startswith(_PREFIX) or len(token) > _MAX_LENGTH:
            return None
        # A lookup by hash is safe against timing attacks: its time does not depend on how much of
        # the token was guessed.
        found = self._select("hash = ? AND service = ?", _hash(token), service)
        return found[0] if found else None

    def list_valid(self, user: str | None = None) -> list[RefreshTokenRecord]:
        """List the records of unexpired tokens, of one user or of all users, oldest first."""
        return self._select("user = ?", user) if user is not None else self._select("1")

    def _select(self, condition: str, *values: object) -> list[RefreshTokenRecord]:
        with self._open() as database:
            rows = database.execute(
                "SELECT id, user, groups, source, stamp, service, client, issued, expires "  # noqa: S608  # the condition is a constant of this class
                f"FROM refresh_tokens WHERE {condition} AND expires > ? ORDER BY issued, rowid",
                (*values, int(self._clock())),
            ).fetchall()
        return [
            RefreshTokenRecord(
                id=row[0],
                identity=Identity(row[1], frozenset(json.loads(row[2]))),
                source=row[3],
                entry_hash=row[4],
                service=row[5],
                client_id=row[6],
                issued_at=datetime.fromtimestamp(row[7], UTC),
                expires_at=datetime.fromtimestamp(row[8], UTC),
            )
            for row in rows
        ]

    def revoke(self, *, id: str | None = None, user: str | None = None) -> int:  # noqa: A002
        """Revoke refresh tokens, and return the number of revoked tokens.

        Args:
            id: the `RefreshTokenRecord.id` of the token to revoke.
            user: the name of a user, to revoke all tokens of this user.
        """
        with self._open() as database:
            return database.execute(
                "DELETE FROM refresh_tokens WHERE id = ? OR user = ?", (id, user)
            ).rowcount


def _hash(token: str) -> bytes:
    # A fast hash is enough, since nobody can guess a token of 256 random bits.
    return hashlib.sha256(token.encode()).digest()
