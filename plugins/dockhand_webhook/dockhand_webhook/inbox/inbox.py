"""The inbox: what registries told, on disk until every handler is done with it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dockhand_core import ConfigError, EventInvalid
from dockhand_core.events import RegistryBaseEvent
from dockhand_webhook.inbox import dead_letters as letters
from dockhand_webhook.inbox import deliveries as lanes
from dockhand_webhook.inbox import event_table as arrivals
from dockhand_webhook.inbox import tokens
from dockhand_webhook.inbox.database import Database, Transaction

__all__ = ["Counts", "HandlerCounts", "Inbox"]

_DAY = 86_400.0
_AT_ONCE = 1000  # rows that a chore removes before others get their turn
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_COUNTERS = """
CREATE TABLE counts (
    name TEXT NOT NULL,
    handler INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, handler)
) WITHOUT ROWID;
"""
_SCHEMA = arrivals.SCHEMA + lanes.SCHEMA + letters.SCHEMA + tokens.SCHEMA + _COUNTERS


@dataclass(frozen=True, slots=True)
class HandlerCounts:
    """What became of a handler's events.

    Attributes:
        delivered: calls that succeeded.
        failed: calls that did not.
        dead: events that were put among the dead letters, since the inbox was made.
        waiting: events that it is still to be told of.
        lag: seconds since the oldest of these arrived; 0 where there is none.
    """

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    waiting: int = 0
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What an inbox has seen since it was made, in whatever processes.

    Attributes:
        received: events that were stored.
        duplicated: events that had been stored already.
        invalid: notifications that could not be read, and became dead letters.
        letters: dead letters that are there now.
        handlers: by handler, what became of its events.
    """

    received: int = 0
    duplicated: int = 0
    invalid: int = 0
    letters: int = 0
    handlers: dict[str, HandlerCounts] = field(default_factory=dict)

    @property
    def delivered(self) -> int:
        """Calls of handlers that succeeded."""
        return sum(each.delivered for each in self.handlers.values())

    @property
    def failed(self) -> int:
        """Calls of handlers that did not."""
        return sum(each.failed for each in self.handlers.values())

    @property
    def dead(self) -> int:
        """What became a dead letter, since the inbox was made."""
        return self.invalid + sum(each.dead for each in self.handlers.values())

    @property
    def waiting(self) -> int:
        """Deliveries that are still to be made."""
        return sum(each.waiting for each in self.handlers.values())

    @property
    def lag(self) -> float:
        """Seconds since the oldest event arrived that some handler is still to be told of."""
        return max((each.lag for each in self.handlers.values()), default=0.0)


class Inbox:
    """Events on disk, in an SQLite file that several processes of one machine share.

    Args:
        path: the file, made readable for its owner alone if it is not there. It belongs on a local
            disk: SQLite's log of changes does not work over a network.
        keep: seconds for which an event is remembered after it arrived, so that a repetition is
            known as one; longer where a handler is not done with it.
        keep_dead: seconds for which dead letters are kept.
        forget: seconds after which a handler that no process has is forgotten, with its events.
        clock: seconds since 1970.

    Attributes:
        letters: its dead letters.
        tokens: those that registries show.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: float = _DAY,
        keep_dead: float = 30 * _DAY,
        forget: float = 7 * _DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._keep, self._keep_dead, self._forget = clock, keep, keep_dead, forget
        self.database = Database(path, _SCHEMA, self._finish, self._tidy)
        self.letters = letters.DeadLetters(self.database, clock)
        self.tokens = tokens.NotifyTokens(self.database, clock)

    async def take(self, connection: str, events: Sequence[RegistryBaseEvent]) -> None:
        """Store events that are not there yet; when this returns they are on disk.

        Args:
            connection: the last part of the route by which they arrived; empty for none.
            events: in order of arrival.

        Raises:
            EventInvalid: one of them cannot be kept; the others are the error's `events`, and none
                is stored.
            InboxError: the inbox cannot be written.
        """
        rows = arrivals.packed(connection, events)
        await self.database.run(
            lambda transaction: arrivals.store(transaction, self._clock(), connection, rows)
        )

    async def take_unread(
        self, connection: str, unread: letters.Unread, error: EventInvalid
    ) -> None:
        """Put a notification that cannot be read among the dead letters, and store what of it can.

        Args:
            connection: the last part of the route by which it arrived; empty for none.
            unread: the notification.
            error: why it cannot be read.

        Raises:
            InboxError: the inbox cannot be written.
        """
        try:
            rows = arrivals.packed(connection, error.events)
        except EventInvalid as other:
            rows = arrivals.packed(connection, other.events)

        def work(transaction: Transaction) -> None:
            now = self._clock()
            letters.bury(transaction, now, str(error), connection, unread)
            arrivals.store(transaction, now, connection, rows)
            transaction.counts["invalid", 0] += 1

        await self.database.run(work)

    def _finish(self, transaction: Transaction) -> None:
        arrivals.flush(transaction)
        for (name, handler), number in transaction.counts.items():
            if number:
                transaction.execute(
                    "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                    "SET value = value + excluded.value",
                    (name, handler, number),
                )

    def lanes(self, owner: str, backoff: lanes.Backoff, lease: float) -> lanes.Lanes:
        """The deliveries that a process makes. See `Lanes` for the arguments."""
        return lanes.Lanes(self.database, owner, backoff=backoff, lease=lease, clock=self._clock)

    def counts(self) -> Counts:
        """What was seen until now.

        Raises:
            InboxError: the inbox cannot be read.
        """
        with self.database.reading() as connection:
            names = dict(connection.execute("SELECT id, name FROM handlers"))
            values = connection.execute("SELECT name, handler, value FROM counts").fetchall()
            waiting = connection.execute(
                "SELECT handler, waiting, received FROM (SELECT handler, COUNT(*) AS waiting, "
                "MIN(event) AS oldest FROM deliveries GROUP BY handler) JOIN events ON seq = oldest"
            ).fetchall()
            ((dead,),) = connection.execute("SELECT COUNT(*) FROM dead").fetchall()
        whole: dict[str, int] = {name: value for name, handler, value in values if not handler}
        each: dict[int, dict[str, Any]] = {number: {} for number in names}
        for name, handler, value in values:
            if handler in each:
                each[handler][name] = value
        now = self._clock()
        for handler, number, received in waiting:
            each[handler] |= {"waiting": number, "lag": max(0.0, now - received)}
        handlers = {names[number]: HandlerCounts(**found) for number, found in each.items()}
        return Counts(**whole, letters=dead, handlers=handlers)

    def forget_handler(self, name: str) -> int:
        """Forget a handler, and tell it of nothing more.

        Args:
            name: the handler's.

        Returns:
            how many events it was still to be told of.

        Raises:
            ConfigError: there is none of that name.
            InboxError: the inbox cannot be written.
        """

        def work(transaction: Transaction) -> int:
            found = transaction.execute("SELECT id FROM handlers WHERE name = ?", (name,))
            row = found.fetchone()
            if row is None:
                raise ConfigError(f"the inbox knows no handler {name!r}")
            return _forget(transaction, row[0])

        return self.database.do(work)

    def _tidy(self, transaction: Transaction) -> bool:
        """Remove what was kept long enough; says whether there may be more."""
        now, execute = self._clock(), transaction.execute
        execute("DELETE FROM dead WHERE died < ?", (now - self._keep_dead,))
        gone = execute("SELECT id FROM handlers WHERE seen < ?", (now - self._forget,)).fetchall()
        for (number,) in gone:
            _forget(transaction, number)
        removed = execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE received < ? "
            "AND seq NOT IN (SELECT event FROM deliveries) "
            "AND seq NOT IN (SELECT event FROM dead WHERE event IS NOT NULL) LIMIT ?)",
            (now - self._keep, _AT_ONCE),
        )
        return removed.rowcount == _AT_ONCE

    def close(self) -> None:
        """Wait until all is written that was asked for. It can be used again afterwards."""
        self.database.close()


def is_connection(name: str) -> bool:
    """Whether the last part of a route can be a connection's name."""
    return _NAME.fullmatch(name) is not None


def _forget(transaction: Transaction, number: int) -> int:
    transaction.execute("DELETE FROM lanes WHERE handler = ?", (number,))
    transaction.execute("DELETE FROM counts WHERE handler = ?", (number,))
    transaction.execute("DELETE FROM handlers WHERE id = ?", (number,))
    return transaction.execute("DELETE FROM deliveries WHERE handler = ?", (number,)).rowcount
