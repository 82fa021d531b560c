"""Tokens with which registries authenticate to the receiver. The inbox stores their hashes.

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

__all__ = ["NotifyToken", "NotifyTokens", "TokenAuthenticator"]

SCHEMA = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    connection TEXT,
    made REAL NOT NULL
);
"""
_PREFIX = "dhn_"  # lets secret scanners recognize the tokens
_RANDOM_BYTES = 32
_REFRESH_INTERVAL = 1.0  # seconds after which the tokens are read from the inbox again


@dataclass(frozen=True, slots=True)
class NotifyToken:
    """A description of an issued token, without the secret token itself.

    Attributes:
        id: identifies the token when it is listed or revoked; not a secret.
        connection: the connection whose route accepts the token; None if every route does.
        created: time at which the token was issued.
    """

    id: str
    connection: str | None
    created: datetime


class NotifyTokens:
    """The tokens that were issued for an inbox.

    Args:
        database: the inbox's database.
        clock: returns the time, in seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def issue(self, connection: str | None = None) -> SecretStr:
        """Issue a new token.

        Earlier tokens stay valid: revoke them once the registry uses the new one.

        Args:
            connection: the connection whose route accepts the token; unless given, every route
                does.

        Returns:
            the token, which cannot be read from the inbox later.

        Raises:
            InboxError: the inbox cannot be written.
        """
        token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        row = (secrets.token_hex(4), _hash(token), connection, self._clock())

        def work(transaction: Transaction) -> None:
            transaction.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", row)

        self._database.write(work)
        return SecretStr(token)

    def valid(self) -> list[NotifyToken]:
        """List the valid tokens, oldest first.

        Raises:
            InboxError: the inbox cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, connection, made FROM tokens ORDER BY made")
            return [
                NotifyToken(token_id, bound_to, datetime.fromtimestamp(created, UTC))
                for token_id, bound_to, created in rows
            ]

    def hashes(self) -> list[tuple[bytes, str | None]]:
        """Read the hash of each valid token, and the connection it is bound to, or None."""
        with self._database.reading() as connection:
            return connection.execute("SELECT hash, connection FROM tokens").fetchall()

    def revoke(self, token_id: str) -> bool:
        """Revoke a token, and return whether it existed.

        Args:
            token_id: the token's id.

        Raises:
            InboxError: the inbox cannot be written.
        """

        def work(transaction: Transaction) -> bool:
            return transaction.execute("DELETE FROM tokens WHERE id = ?", (token_id,)).rowcount > 0

        return self._database.write(work)


class TokenAuthenticator:
    """Decides whether a request is accepted.

    Args:
        issued: the tokens of the inbox. Tokens that are issued or revoked later, also by other
            processes, take effect within a second.
        fixed: further tokens, valid on every route.
        anonymous: accept every request, with or without a token.
        clock: returns a time in seconds that never goes back.
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
        self._refreshed_at = clock()

    @property
    def rejects_all(self) -> bool:
        """Whether every request is rejected: there is no token, and `anonymous` is false."""
        return not (self._anonymous or self._hashes)

    def accepts(self, authorization: str | None, connection: str) -> bool:
        """Whether a request is accepted.

        Args:
            authorization: the request's `Authorization` header; None if there is none.
            connection: the connection name in the request's route; empty if none.
        """
        if self._anonymous:
            return True
        if authorization is None:
            return False
        if self._clock() - self._refreshed_at >= _REFRESH_INTERVAL:
            self._refresh()
        candidate = _hash(_token_of(authorization))
        accepted = False
        for known, bound_to in self._hashes:  # no early exit: the response time must reveal nothing
            same = hmac.compare_digest(candidate, known)
            accepted |= same and (bound_to is None or bound_to == connection)
        return accepted

    def _refresh(self) -> None:
        self._refreshed_at = self._clock()
        try:
            self._hashes = [*self._fixed, *self._issued.hashes()]
        except InboxError:  # keep the tokens read before; the next write will report the error
            return


def _token_of(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    credentials = basic_credentials(authorization)
    return credentials[1].decode(errors="replace") if credentials else ""


def _hash(token: str) -> bytes:
    # A fast hash suffices: a token has 256 random bits, so it cannot be found by trying.
    return hashlib.sha256(token.encode(errors="replace")).digest()
