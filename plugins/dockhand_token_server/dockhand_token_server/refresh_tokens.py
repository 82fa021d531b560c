"""Refresh tokens, which clients store instead of a password, in an SQLite file.

A refresh token is random. The file contains only hashes of tokens, so a reader of the file gets no
usable token. Each operation opens the file anew, so several processes on one machine can share it.

The refresh tokens that follow from one login are a family. A client may exchange its refresh token
for a new one; the old one is then spent, at the latest when the new one is used. If a spent token
is used once more, two clients have the tokens of one login, so one of them stole its token: the
whole family is revoked.

Follows: Distribution's "Docker Registry v2 authentication using OAuth2"; RFC 9700, section 4.14.2
("Refresh token rotation").
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dockhand_core import ConfigError, Identity

__all__ = ["RefreshTokenRecord", "RefreshTokens"]

_log = logging.getLogger("dockhand.token_server")
_PREFIX = "dhr_"  # lets secret scanners recognize a leaked token
_RANDOM_BYTES = 32
_MAX_LENGTH = 128  # characters; a longer text is not a refresh token
_MAX_PER_USER = 1000
_MAX_SPENT = 100  # spent tokens that are kept for each family, to notice when one is used again
# New tokens of one generation that are kept for each family. Clients such as docker get one with
# each reply, and never use it.
_MAX_OFFERED = 20
# Seconds for which a spent token can be exchanged once more: the reply may have been lost, or two
# requests of one client may have crossed.
_GRACE = 60
_BUSY_TIMEOUT = 5.0  # seconds; the time to wait for another process's lock on the file
_VERSION = 2
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
    expires INTEGER NOT NULL,
    login TEXT,
    family TEXT,
    generation INTEGER,
    spent INTEGER
);
CREATE INDEX IF NOT EXISTS refresh_tokens_user ON refresh_tokens (user, issued);
CREATE INDEX IF NOT EXISTS refresh_tokens_family ON refresh_tokens (family);
"""
# In files of version 1, each token is a family of its own.
_UPGRADE = """
ALTER TABLE refresh_tokens ADD COLUMN login TEXT;
ALTER TABLE refresh_tokens ADD COLUMN family TEXT;
ALTER TABLE refresh_tokens ADD COLUMN generation INTEGER;
ALTER TABLE refresh_tokens ADD COLUMN spent INTEGER;
UPDATE refresh_tokens SET login = user, family = id, generation = 0;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
"""
_SELECT = (
    "SELECT id, user, groups, source, stamp, service, client, issued, expires, login, family, "
    "generation, spent FROM refresh_tokens "
)


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
        client_id: the name of the client program that asked for the token.
        issued_at: the time at which the token was issued.
        expires_at: the time at which the token expires. All tokens of a family expire together.
        login: the user name as the client sent it at the login.
        family: the `id` of the token that was issued at the login.
        generation: the number of exchanges since the login.
        spent_at: the time at which the token was exchanged for another one; None if it was not.
    """

    id: str
    identity: Identity
    source: str
    entry_hash: bytes
    service: str
    client_id: str
    issued_at: datetime
    expires_at: datetime
    login: str = ""
    family: str = ""
    generation: int = 0
    spent_at: datetime | None = None


class RefreshTokens:
    """The refresh tokens of a token endpoint, in an SQLite file.

    Args:
        path: the SQLite file, created if it does not exist; only its owner can read it then.
        lifetime: the lifetime of refresh tokens, in seconds.
        clock: returns the time, in seconds since 1970.

    Raises:
        ConfigError: the file cannot be opened, or is not a database of refresh tokens.
    """

    def __init__(self, path: Path, lifetime: int, clock: Callable[[], float] = time.time) -> None:
        self._path, self._lifetime, self._clock = path, lifetime, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._create()
            with self._writing() as database:
                self._prepare(database)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"refresh_tokens: {path}: {reason}; name a writable SQLite file, or set "
                "refresh_tokens = false"
            ) from None

    def _create(self) -> None:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in {0, 1, _VERSION}:
            raise ConfigError(
                f"refresh_tokens: {self._path}: written by a newer version of "
                "dockhand-token-server; upgrade this one, or name another file"
            )
        if version != _VERSION:
            for statement in (_UPGRADE if version else _SCHEMA).split(";\n"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        is_gone = not self._path.exists()
        if is_gone:  # SQLite would create a file that others can read
            self._create()
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        with closing(connection) as database:
            if is_gone:
                self._prepare(database)
            yield database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open the file in one transaction, which no other writer can interrupt."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def issue(
        self,
        identity: Identity,
        *,
        source: str,
        entry_hash: bytes,
        service: str,
        client_id: str,
        login: str | None = None,
    ) -> str:
        """Create and store a new refresh token, and return the token.

        This also deletes expired tokens, and the oldest logins if the user has more than 1000.

        Args:
            identity, source, entry_hash, service, client_id: see `RefreshTokenRecord`.
            login: see `RefreshTokenRecord`; the identity's name by default.
        """
        now = int(self._clock())
        with self._writing() as database:
            database.execute("DELETE FROM refresh_tokens WHERE expires <= ?", (now,))
            values = (
                identity.name, json.dumps(sorted(identity.groups)), source, entry_hash, service,
                client_id, now, now + self._lifetime, login or identity.name,
            )  # fmt: skip
            token = _insert(database, values)
            database.execute(
                "DELETE FROM refresh_tokens WHERE family IN (SELECT family FROM "
                "refresh_tokens WHERE user = ? AND spent IS NULL GROUP BY family "
                "ORDER BY MAX(issued) DESC, MAX(rowid) DESC LIMIT -1 OFFSET ?)",
                (identity.name, _MAX_PER_USER),
            )
        return token

    def rotate(self, token: str, service: str, *, requested: bool = True) -> str | None:
        """Exchange a refresh token for a new one of its family.

        A spent token can be exchanged again within a minute, until a token that it was exchanged
        for is used: the client may not have received the new token, or may have sent two requests
        at once. A later use means that the token was stolen, and its family is revoked; `find`
        does the same.

        Args:
            token: the old token.
            service: the name of the registry that it is for.
            requested: whether the client asked for the new token. If so, the old one is spent now;
                else when the new one is used, because the client may not store the new one.

        Returns:
            the new token, which expires when the old one would have; None if the old one is
            unknown, expired, for another registry, or spent.
        """
        now = int(self._clock())
        with self._writing() as database:
            record = self._find_unspent(database, token, service)
            if record is None:
                return None
            values = (
                record.identity.name, json.dumps(sorted(record.identity.groups)), record.source,
                record.entry_hash, service, record.client_id, now,
                int(record.expires_at.timestamp()), record.login,
            )  # fmt: skip
            if requested:
                database.execute(
                    "UPDATE refresh_tokens SET spent = COALESCE(spent, ?) WHERE id = ?",
                    (now, record.id),
                )
            new = _insert(database, values, record.family, record.generation + 1)
            database.execute(
                "DELETE FROM refresh_tokens WHERE id IN (SELECT id FROM refresh_tokens WHERE "
                "family = ? AND spent IS NOT NULL ORDER BY spent DESC, rowid DESC "
                "LIMIT -1 OFFSET ?)",
                (record.family, _MAX_SPENT),
            )
            database.execute(
                "DELETE FROM refresh_tokens WHERE id IN (SELECT id FROM refresh_tokens WHERE "
                "family = ? AND spent IS NULL AND generation > ? ORDER BY rowid DESC "
                "LIMIT -1 OFFSET ?)",
                (record.family, record.generation, _MAX_OFFERED),
            )
        return new

    def find(self, token: str, service: str) -> RefreshTokenRecord | None:
        """Find a token's record.

        Returns:
            the record; None if the token is unknown, expired, for another registry, or spent. A
            token that was spent a moment ago is still found; see `rotate`.
        """
        with self._open() as database:
            found = self._select(database, token, service)
            if found is None or not (found.spent_at or self._replaced(database, found)):
                return found
        with self._writing() as database:
            return self._find_unspent(database, token, service)

    def _find_unspent(
        self, database: sqlite3.Connection, token: str, service: str
    ) -> RefreshTokenRecord | None:
        """Find a token's record, or revoke its family if the token was spent too long ago.

        The first use of a token proves that its client has it: the tokens before it are spent, as
        if that was long ago, and so are others that were given for the same token at another time.
        """
        found = self._select(database, token, service)
        if found is None:
            return None
        if found.spent_at is None:
            replaced = self._replaced(database, found)
            database.executemany(
                "UPDATE refresh_tokens SET spent = ? WHERE id = ?",
                [(int(self._clock()) - _GRACE, id_) for id_ in replaced],
            )
            return found
        later = database.execute(
            "SELECT 1 FROM refresh_tokens WHERE family = ? AND generation > ? "
            "AND spent IS NOT NULL",
            (found.family, found.generation),
        ).fetchone()
        if later is None and self._clock() < found.spent_at.timestamp() + _GRACE:
            return found
        database.execute("DELETE FROM refresh_tokens WHERE family = ?", (found.family,))
        _log.warning(
            "a spent refresh token of %r was used again: all tokens of that login are revoked. If "
            "its client %r keeps new refresh tokens in memory only, set refresh_token_rotation = "
            '"requested"',
            found.identity.name, found.client_id,
        )  # fmt: skip
        return None

    def _replaced(self, database: sqlite3.Connection, record: RefreshTokenRecord) -> list[str]:
        """Return the ids of a family's tokens that the use of one of its tokens replaces.

        Tokens that crossing requests of one client got for the same token stay valid.
        """
        rows = database.execute(
            "SELECT id FROM refresh_tokens WHERE family = ? AND ((generation < ? AND "
            "(spent IS NULL OR spent > ?)) OR (generation = ? AND spent IS NULL AND "
            "abs(issued - ?) > ?))",
            (
                record.family, record.generation, int(self._clock()) - _GRACE,
                record.generation, int(record.issued_at.timestamp()), _GRACE,
            ),
        )  # fmt: skip
        return [row[0] for row in rows]

    def _select(
        self, database: sqlite3.Connection, token: str, service: str
    ) -> RefreshTokenRecord | None:
        if not token.startswith(_PREFIX) or len(token) > _MAX_LENGTH:
            return None
        # A lookup by hash is safe against timing attacks: its time does not depend on how much of
        # the token was guessed.
        row = database.execute(
            _SELECT + "WHERE hash = ? AND service = ? AND expires > ?",
            (_hash(token), service, int(self._clock())),
        ).fetchone()
        return _record(row) if row is not None else None

    def list_valid(self, user: str | None = None) -> list[RefreshTokenRecord]:
        """List the newest valid token of each login, of one user or of all users, oldest first.

        Expired and spent tokens are not listed.
        """
        with self._open() as database:
            rows = database.execute(
                _SELECT + "WHERE rowid IN (SELECT MAX(rowid) FROM refresh_tokens "  # noqa: S608
                "WHERE expires > ? AND spent IS NULL AND (? IS NULL OR user = ?) GROUP BY family) "
                "ORDER BY issued, rowid",
                (int(self._clock()), user, user),
            ).fetchall()
        return [_record(row) for row in rows]

    def revoke(self, *, id: str | None = None, user: str | None = None) -> int:  # noqa: A002
        """Revoke refresh tokens, and return the number of logins whose tokens were revoked.

        Args:
            id: the `RefreshTokenRecord.id` of the token to revoke. All tokens of its family are
                revoked.
            user: the name of a user, to revoke all tokens of this user.
        """
        with self._writing() as database:
            found = database.execute(
                "SELECT id, family FROM refresh_tokens WHERE user = ? OR family IN "
                "(SELECT family FROM refresh_tokens WHERE id = ?)",
                (user, id),
            ).fetchall()
            database.executemany(
                "DELETE FROM refresh_tokens WHERE id = ?", [(found_id,) for found_id, _ in found]
            )
        return len({family for _, family in found})


def _insert(
    database: sqlite3.Connection,
    values: tuple[object, ...],
    family: str | None = None,
    generation: int = 0,
) -> str:
    """Store a new token, of a new family unless one is given, and return the token."""
    token, id_ = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES), secrets.token_hex(8)
    database.execute(
        "INSERT INTO refresh_tokens (id, hash, family, generation, user, groups, source, stamp, "
        "service, client, issued, expires, login) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (id_, _hash(token), family or id_, generation, *values),
    )
    return token


def _record(row: tuple[Any, ...]) -> RefreshTokenRecord:
    return RefreshTokenRecord(
        id=row[0],
        identity=Identity(row[1], frozenset(json.loads(row[2]))),
        source=row[3],
        entry_hash=row[4],
        service=row[5],
        client_id=row[6],
        issued_at=datetime.fromtimestamp(row[7], UTC),
        expires_at=datetime.fromtimestamp(row[8], UTC),
        login=row[9],
        family=row[10],
        generation=row[11],
        spent_at=datetime.fromtimestamp(row[12], UTC) if row[12] is not None else None,
    )


def _hash(token: str) -> bytes:
    # A fast hash is enough, since nobody can guess a token of 256 random bits.
    return hashlib.sha256(token.encode()).digest()
