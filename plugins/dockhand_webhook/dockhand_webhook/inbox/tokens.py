"""Tokens that registries show: made here, and kept as a hash.

Follows: RFC 6750, 2.1 (Bearer); RFC 7617 (Basic: any user name, the token as the password).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SecretStr

from dockhand_core.server import basic_credentials
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.database import Database, Transaction

__all__ = ["Door", "NotifyToken", "NotifyTokens"]

SCHEMA = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    connection TEXT,
    made REAL NOT NULL
);
"""
_PREFIX = "dhn_"  # by which those who look for lost secrets know one
_BYTES = 32
_FRESH = 1.0  # seconds after which the inbox is asked again


@dataclass(frozen=True, slots=True)
class NotifyToken:
    """What is known of a token.

    Attributes:
        id: what it is called in lists, and revoked by; no secret.
        connection: the one whose route alone it opens; None for every route.
        made: when.
    """

    id: str
    connection: str | None
    made: datetime


class NotifyTokens:
    """The tokens of an inbox.

    Args:
        database: the inbox's.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def issue(self, connection: str | None = None) -> SecretStr:
        """A new token. Those before it hold on: revoke them once the registry has this one.

        Args:
            connection: the one whose route alone it is to open; every route unless given.

        Raises:
            InboxError: the inbox cannot be written.
        """
        token = _PREFIX + secrets.token_urlsafe(_BYTES)
        row = (secrets.token_hex(4), _hash(token), connection, self._clock())

        def work(transaction: Transaction) -> None:
            transaction.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", row)

        self._database.do(work)
        return SecretStr(token)

    def held(self) -> list[NotifyToken]:
        """The tokens that hold, the oldest first.

        Raises:
            InboxError: the inbox cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, connection, made FROM tokens ORDER BY made")
            return [
                NotifyToken(name, bound, datetime.fromtimestamp(made, UTC))
                for name, bound, made in rows
            ]

    def hashes(self) -> list[tuple[bytes, str | None]]:
        """The hash of each token that holds, and the connection that it is bound to."""
        with self._database.reading() as connection:
            return connection.execute("SELECT hash, connection FROM tokens").fetchall()

    def revoke(self, token: str) -> bool:
        """Make a token void, and say whether there was one.

        Args:
            token: its id.

        Raises:
            InboxError: the inbox cannot be written.
        """

        def work(transaction: Transaction) -> bool:
            return transaction.execute("DELETE FROM tokens WHERE id = ?", (token,)).rowcount > 0

        return self._database.do(work)


class Door:
    """Who may come in: whoever shows a token, or everybody.

    Args:
        issued: the tokens of the inbox; one that is made or revoked counts within a second.
        fixed: tokens that hold beside them, on every route.
        anonymous: let everybody in.
        clock: seconds.
    """

    def __init__(
        self,
        issued: NotifyTokens,
        fixed: Iterable[SecretStr],
        *,
        anonymous: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issued, self._anonymous, self._clock = issued, anonymous, clock
        self._fixed: list[tuple[bytes, str | None]] = [
            (_hash(token.get_secret_value()), None) for token in fixed
        ]
        self._hashes = [*self._fixed, *issued.hashes()]
        self._read = clock()

    @property
    def is_locked(self) -> bool:
        """Whether there is neither a token nor leave to come in without."""
        return not (self._anonymous or self._hashes)

    def admits(self, authorization: str | None, connection: str) -> bool:
        """Whether a request may come in.

        Args:
            authorization: its header of that name.
            connection: the last part of its route; empty for none.
        """
        if self._anonymous:
            return True
        if authorization is None:
            return False
        if self._clock() - self._read >= _FRESH:
            self._refresh()
        shown = _hash(_secret(authorization))
        admitted = False
        for known, bound in self._hashes:  # all of them, so that the time tells nothing
            same = hmac.compare_digest(shown, known)
            admitted |= same and (bound is None or bound == connection)
        return admitted

    def _refresh(self) -> None:
        self._read = self._clock()
        try:
            self._hashes = [*self._fixed, *self._issued.hashes()]
        except InboxError:  # what was valid stays so; who writes next says what is wrong
            return


def _secret(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    credentials = basic_credentials(authorization)
    return credentials[1].decode(errors="replace") if credentials else ""


def _hash(token: str) -> bytes:
    # The token is 256 random bits: there is nothing to guess that a slow hash would make slower.
    return hashlib.sha256(token.encode(errors="replace")).digest()
