"""Refresh tokens: what a client keeps instead of a password.

Opaque, and stored as a hash, so that whoever reads the file can log in with none of them. Every
operation opens the file anew: several processes of one machine share it.

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

__all__ = ["Held", "RefreshTokens"]

_PREFIX = "dhr_"  # by which those who look for lost secrets know one
_BYTES = 32
_LONGEST = 128
_EACH = 1000  # for one user; the oldest go
_BUSY = 5.0
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
class Held:
    """What is known of a refresh token.

    Attributes:
        id: what it is called in lists, and revoked by; no secret.
        identity: whose it is, with the groups that a plugin named when they logged in.
        source: who said that it is them: `users` for the htpasswd file, or a plugin's name.
        stamp: what has to be the same for the token to hold: a hash of the user's entry.
        service: the registry that it is for.
        client: what the client called itself.
        issued, expires: when.
    """

    id: str
    identity: Identity
    source: str
    stamp: bytes
    service: str
    client: str
    issued: datetime
    expires: datetime


class RefreshTokens:
    """The refresh tokens in an SQLite file.

    Args:
        path: the file, made readable for its owner alone if it is not there.
        lifetime: seconds.
        clock: seconds since 1970.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, path: Path, lifetime: int, clock: Callable[[], float] = time.time) -> None:
        self._path, self._lifetime, self._clock = path, lifetime, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with self._open() as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version not in {0, _VERSION}:
                    raise ConfigError(f"refresh_tokens: {path}: written by a newer version of this")
                if not version:
                    database.executescript(_SCHEMA)
                    database.execute(f"PRAGMA user_version = {_VERSION}")
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"refresh_tokens: {path}: {reason}; name an SQLite file that can be written, or "
                "say refresh_tokens = false"
            ) from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY)) as database, database:
            yield database

    def issue(
        self, identity: Identity, *, source: str, stamp: bytes, service: str, client: str
    ) -> str:
        """A new token. See `Held` for the arguments."""
        token = _PREFIX + secrets.token_urlsafe(_BYTES)
        now = int(self._clock())
        row = (
            secrets.token_hex(8), _hash(token), identity.name, json.dumps(sorted(identity.groups)),
            source, stamp, service, client, now, now + self._lifetime,
        )  # fmt: skip
        with self._open() as database:
            database.execute("DELETE FROM refresh_tokens WHERE expires <= ?", (now,))
            database.execute("INSERT INTO refresh_tokens VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            database.execute(
                "DELETE FROM refresh_tokens WHERE id IN (SELECT id FROM refresh_tokens "
                "WHERE user = ? ORDER BY issued DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (identity.name, _EACH),
            )
        return token

    def find(self, token: str, service: str) -> Held | None:
        """What is known of a token; None where it is unknown, expired or for another registry."""
        if not token.startswith(_PREFIX) or len(token) > _LONGEST:
            return None
        # Looking up a hash tells by its time nothing of the token.
        found = self._select("hash = ? AND service = ?", _hash(token), service)
        return found[0] if found else None

    def held(self, user: str | None = None) -> list[Held]:
        """The tokens that hold, of one user or of all, the oldest first."""
        return self._select("user = ?", user) if user is not None else self._select("1")

    def _select(self, condition: str, *values: object) -> list[Held]:
        with self._open() as database:
            rows = database.execute(
                "SELECT id, user, groups, source, stamp, service, client, issued, expires "  # noqa: S608  # ours
                f"FROM refresh_tokens WHERE {condition} AND expires > ? ORDER BY issued, rowid",
                (*values, int(self._clock())),
            ).fetchall()
        return [
            Held(
                id=row[0],
                identity=Identity(row[1], frozenset(json.loads(row[2]))),
                source=row[3],
                stamp=row[4],
                service=row[5],
                client=row[6],
                issued=datetime.fromtimestamp(row[7], UTC),
                expires=datetime.fromtimestamp(row[8], UTC),
            )
            for row in rows
        ]

    def revoke(self, *, id: str | None = None, user: str | None = None) -> int:  # noqa: A002
        """Make tokens void; gives how many.

        Args:
            id: the one that is listed so.
            user: all of a user.
        """
        with self._open() as database:
            return database.execute(
                "DELETE FROM refresh_tokens WHERE id = ? OR user = ?", (id, user)
            ).rowcount


def _hash(token: str) -> bytes:
    # The token is 256 random bits: there is nothing to guess that a slow hash would make slower.
    return hashlib.sha256(token.encode()).digest()
