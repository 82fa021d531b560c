"""Limits on the number and size of dead letters, so that a bad sender cannot fill the disk."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from dockhand_core.server import ThrottledLog

if TYPE_CHECKING:
    from dockhand_webhook.inbox.database import Transaction

__all__ = ["MAX_DEAD", "MAX_DEAD_BYTES", "DeadLetterLimits"]

MAX_DEAD = 10_000
MAX_DEAD_BYTES = 64 << 20
_ALL_CONNECTIONS = 10  # all connections together may have this many times the limits of one
_MAX_SCOPES = 1000
_PARTS = 20  # a twentieth of a limit is deleted in advance
_OF_SCOPE = "FROM dead WHERE (handler IS NOT NULL) = ?1 AND (?2 IS NULL OR connection = ?2)"
# For an event, `size` is the size of its data, which is in the table of events.
_BYTES = "COALESCE(LENGTH(body), size, 0)"
_TOTALS = f"SELECT COUNT(*), COALESCE(SUM({_BYTES}), 0) {_OF_SCOPE}"
_DELETE_OLDEST = (
    "DELETE FROM dead WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER newest AS number, "  # noqa: S608  # constants of this module
    f"SUM({_BYTES}) OVER newest AS total {_OF_SCOPE} WINDOW newest AS (ORDER BY id DESC)) "
    "WHERE number > 1 AND (number > ?3 OR total > ?4))"
)
_Scope = tuple[bool, str | None]  # whether events; the connection, or None for all


class DeadLetterLimits:
    """Deletes the oldest dead letters of a connection when there are too many.

    Unreadable notifications, and events that a handler failed at, are limited separately, so that
    unreadable notifications cannot displace events. The newest dead letter always stays.

    Counting all dead letters takes long. So a twentieth more than necessary is deleted, and the
    next count is made when as many new ones were added. Each process adds up only its own new dead
    letters, so each further process may exceed the limits by a twentieth.

    Args:
        max_number: maximum number of dead letters of a connection.
        max_bytes: maximum size of their contents together.
    """

    def __init__(self, max_number: int, max_bytes: int) -> None:
        self._max_number, self._max_bytes = max_number, max_bytes
        self._log = ThrottledLog(logging.getLogger("dockhand.webhook"), logging.ERROR)
        # Number and bytes that may be added before all are counted again
        self._left: dict[_Scope, tuple[int, int]] = {}

    def apply(self, transaction: Transaction) -> None:
        """Delete the oldest dead letters if the new ones of a transaction exceed the limits."""
        numbers: Counter[_Scope] = Counter()
        sizes: Counter[_Scope] = Counter()
        for letter in transaction.new_dead_letters:
            for connection in (letter.connection, None):
                numbers[letter.is_event, connection] += 1
                sizes[letter.is_event, connection] += letter.size
        for scope, number in numbers.items():
            left_number, left_bytes = self._left.get(scope, (0, 0))
            left = left_number - number, left_bytes - sizes[scope]
            if min(left) < 0:
                if len(self._left) >= _MAX_SCOPES:
                    self._left.clear()
                left = self._delete_oldest(transaction, scope)
            self._left[scope] = left

    def _delete_oldest(self, transaction: Transaction, scope: _Scope) -> tuple[int, int]:
        """Count the dead letters, delete the oldest, and return the number and bytes left."""
        is_event, connection = scope
        factor = _ALL_CONNECTIONS if connection is None else 1
        max_number, max_bytes = self._max_number * factor, self._max_bytes * factor
        ((number, size),) = transaction.execute(_TOTALS, scope).fetchall()
        if number > max_number or size > max_bytes:
            wanted = max_number - max_number // _PARTS, max_bytes - max_bytes // _PARTS
            deleted = transaction.execute(_DELETE_OLDEST, (*scope, *wanted)).rowcount
            transaction.counts["deleted", 0] += deleted
            if deleted:
                self._log(
                    "the oldest %d dead letters of %s were deleted: of the %s, at most %d with %d "
                    "bytes together are kept (--max-dead, --max-dead-bytes)",
                    deleted,
                    "all connections" if connection is None else f"connection {connection!r}",
                    "events that a handler failed at" if is_event else "unreadable notifications",
                    max_number, max_bytes,
                )  # fmt: skip
            ((number, size),) = transaction.execute(_TOTALS, scope).fetchall()
        left_number = min(max_number - number, max_number // _PARTS)
        return left_number, min(max_bytes - size, max_bytes // _PARTS)
