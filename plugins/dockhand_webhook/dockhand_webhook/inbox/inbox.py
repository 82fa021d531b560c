"""The inbox: events on disk until every handler has processed them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dockhand_core import ConfigError, EventInvalid
from dockhand_core.events import RegistryBaseEvent
from dockhand_webhook.inbox import dead_letters, deliveries, event_table, tokens
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.database import Database, Transaction
from dockhand_webhook.inbox.dead_letter_limits import MAX_DEAD, MAX_DEAD_BYTES, DeadLetterLimits

__all__ = ["Counts", "HandlerCounts", "Inbox"]

_DAY = 86_400.0
_MAX_SERIALIZED_AT_ONCE = 200  # events
_MAINTENANCE_ROWS = 1000  # maximum deleted in one transaction, which must not block others long
_CONNECTION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_COUNTS_SCHEMA = """
CREATE TABLE counts (
    name TEXT NOT NULL,
    handler INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, handler)
) WITHOUT ROWID;
"""
_SCHEMA = (
    event_table.SCHEMA + deliveries.SCHEMA + dead_letters.SCHEMA + tokens.SCHEMA + _COUNTS_SCHEMA
)


@dataclass(frozen=True, slots=True)
class HandlerCounts:
    """Counts of one handler, since it was first registered.

    Attributes:
        delivered: number of calls that succeeded.
        failed: number of calls that failed.
        dead: number of events that became dead letters.
        waiting: number of events that wait for delivery now.
        lag: seconds since the arrival of the oldest event that waits now; 0 if none waits.
    """

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    waiting: int = 0
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of an inbox since it was created, over all processes.

    Attributes:
        received: number of events that were stored.
        duplicated: number of events that arrived when they were stored already.
        invalid: number of unreadable notifications, which became dead letters.
        deleted: number of dead letters that were deleted because there were too many.
        dead_letters: number of dead letters that exist now.
        handlers: the counts of each handler, by the handler's name.
    """

    received: int = 0
    duplicated: int = 0
    invalid: int = 0
    deleted: int = 0
    dead_letters: int = 0
    handlers: dict[str, HandlerCounts] = field(default_factory=dict)

    @property
    def delivered(self) -> int:
        """Number of calls of handlers that succeeded."""
        return sum(counts.delivered for counts in self.handlers.values())

    @property
    def failed(self) -> int:
        """Number of calls of handlers that failed."""
        return sum(counts.failed for counts in self.handlers.values())

    @property
    def dead(self) -> int:
        """Number of dead letters so far, including those that were replayed or dropped."""
        return self.invalid + sum(counts.dead for counts in self.handlers.values())

    @property
    def waiting(self) -> int:
        """Number of deliveries that wait now.

        An event counts once for each handler that it waits for.
        """
        return sum(counts.waiting for counts in self.handlers.values())

    @property
    def lag(self) -> float:
        """Seconds since the arrival of the oldest event that waits now; 0 if no event waits."""
        return max((counts.lag for counts in self.handlers.values()), default=0.0)


class Inbox:
    """Events in an SQLite file, which several processes of one machine can share.

    Args:
        path: the SQLite file. If it does not exist, it is created, and only its owner can access
            it. It must be on a local disk: SQLite's write-ahead log does not work over a network
            file system.
        keep: seconds for which an event is kept after it arrived. For that time, the event is
            recognized if a registry sends it again. It is kept longer while a delivery or a dead
            letter needs it.
        keep_dead: seconds for which a dead letter is kept.
        max_dead: maximum number of dead letters of a connection. Beyond it, the oldest are deleted.
            Unreadable notifications, and events that a handler failed at, are counted separately.
        max_dead_bytes: maximum size of the dead letters of a connection together, in bytes; applied
            in the same way. All connections together may have ten times as much.
        forget: seconds after which a handler is removed with its deliveries, if no process
            registers the handler any more.
        clock: returns the time, in seconds since 1970.

    Attributes:
        database: the SQLite file.
        dead_letters: the dead letters.
        tokens: the tokens that registries authenticate with.

    Raises:
        ConfigError: the SQLite file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: float = _DAY,
        keep_dead: float = 30 * _DAY,
        max_dead: int = MAX_DEAD,
        max_dead_bytes: int = MAX_DEAD_BYTES,
        forget: float = 7 * _DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._keep, self._keep_dead, self._forget = clock, keep, keep_dead, forget
        self._dead_letter_limits = DeadLetterLimits(max_dead, max_dead_bytes)
        self.database = Database(path, _SCHEMA, self._before_commit, self._delete_expired)
        self.dead_letters = dead_letters.DeadLetters(self.database, clock)
        self.tokens = tokens.NotifyTokens(self.database, clock)

    async def store(self, connection: str, events: Sequence[RegistryBaseEvent]) -> None:
        """Store the events of a notification. They are on disk when this returns.

        Events that are stored already are skipped.

        Args:
            connection: the connection name in the route of the notification; empty if none.
            events: the events, in order of arrival.

        Raises:
            EventInvalid: an event cannot be serialized, so no event is stored. The error's `events`
                are all events that can be serialized.
            InboxError: the inbox cannot be written.
        """
        rows = await _to_rows(connection, events)
        await self.database.write_async(
            lambda transaction: event_table.enqueue(transaction, self._clock(), connection, rows)
        )

    async def store_unreadable(
        self,
        connection: str,
        notification: dead_letters.UnreadableNotification,
        error: EventInvalid,
    ) -> None:
        """Store an unreadable notification as a dead letter, and its readable events as usual.

        Args:
            connection: the connection name in the route of the notification; empty if none.
            notification: the notification.
            error: the error of the parser, whose `events` are the readable events.

        Raises:
            InboxError: the inbox cannot be written.
        """
        try:
            rows = await _to_rows(connection, error.events)
        except EventInvalid as other:
            rows = await _to_rows(connection, other.events)

        def work(transaction: Transaction) -> None:
            now = self._clock()
            dead_letters.add_dead_letter(transaction, now, str(error), connection, notification)
            event_table.enqueue(transaction, now, connection, rows)
            transaction.counts["invalid", 0] += 1

        await self.database.write_async(work)

    def _before_commit(self, transaction: Transaction) -> None:
        event_table.write_pending(transaction)
        self._dead_letter_limits.apply(transaction)
        for (name, handler_id), number in transaction.counts.items():
            if number:
                transaction.execute(
                    "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                    "SET value = value + excluded.value",
                    (name, handler_id, number),
                )

    def delivery_queue(
        self, owner: str, backoff: Backoff, lease: float
    ) -> deliveries.DeliveryQueue:
        """Create a queue of the inbox's deliveries; see `DeliveryQueue` for the arguments."""
        return deliveries.DeliveryQueue(
            self.database, owner, backoff=backoff, lease=lease, clock=self._clock
        )

    def counts(self) -> Counts:
        """Read the present counts.

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
        totals: dict[str, int] = {
            name: value for name, handler_id, value in values if not handler_id
        }
        by_handler: dict[int, dict[str, Any]] = {handler_id: {} for handler_id in names}
        for name, handler_id, value in values:
            if handler_id in by_handler:
                by_handler[handler_id][name] = value
        now = self._clock()
        for handler_id, number, received in waiting:
            by_handler[handler_id] |= {"waiting": number, "lag": max(0.0, now - received)}
        handlers = {names[id_]: HandlerCounts(**counts) for id_, counts in by_handler.items()}
        return Counts(**totals, dead_letters=dead, handlers=handlers)

    def forget_handler(self, name: str) -> int:
        """Remove a handler, and its deliveries that wait.

        Args:
            name: the handler's name.

        Returns:
            the number of deliveries that were removed.

        Raises:
            ConfigError: no handler has that name.
            InboxError: the inbox cannot be written.
        """

        def work(transaction: Transaction) -> int:
            found = transaction.execute("SELECT id FROM handlers WHERE name = ?", (name,))
            row = found.fetchone()
            if row is None:
                raise ConfigError(f"the inbox knows no handler {name!r}")
            return _delete_handler(transaction, row[0])

        return self.database.write(work)

    def _delete_expired(self, transaction: Transaction) -> bool:
        """Delete rows that were kept long enough, and return whether more may be left."""
        now, execute = self._clock(), transaction.execute
        execute("DELETE FROM dead WHERE died < ?", (now - self._keep_dead,))
        gone = execute("SELECT id FROM handlers WHERE seen < ?", (now - self._forget,)).fetchall()
        for (handler_id,) in gone:
            _delete_handler(transaction, handler_id)
        deleted = execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE received < ? "
            "AND seq NOT IN (SELECT event FROM deliveries) "
            "AND seq NOT IN (SELECT event FROM dead WHERE event IS NOT NULL) LIMIT ?)",
            (now - self._keep, _MAINTENANCE_ROWS),
        )
        return deleted.rowcount == _MAINTENANCE_ROWS

    def close(self) -> None:
        """Wait until everything submitted is on disk. The inbox can be used again afterwards."""
        self.database.close()


async def _to_rows(
    connection: str, events: Sequence[RegistryBaseEvent]
) -> list[event_table.EventRow]:
    """Convert events to rows, many events in a thread, so that other requests do not wait."""
    if len(events) <= _MAX_SERIALIZED_AT_ONCE:
        return event_table.to_rows(connection, events)
    return await asyncio.to_thread(event_table.to_rows, connection, events)


def is_connection_name(name: str) -> bool:
    """Whether a text is a valid name of a connection, the last part of a route."""
    return _CONNECTION_NAME.fullmatch(name) is not None


def _delete_handler(transaction: Transaction, handler_id: int) -> int:
    transaction.execute("DELETE FROM lanes WHERE handler = ?", (handler_id,))
    transaction.execute("DELETE FROM counts WHERE handler = ?", (handler_id,))
    transaction.execute("DELETE FROM handlers WHERE id = ?", (handler_id,))
    deleted = transaction.execute("DELETE FROM deliveries WHERE handler = ?", (handler_id,))
    return deleted.rowcount
