"""Dead letters: unreadable notifications, and events whose delivery failed at every attempt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dockhand_core.events import EventHeaders, EventParsers
from dockhand_webhook.errors import DeadLetterError, DeadLetterUnknown
from dockhand_webhook.inbox.database import Database, NewDeadLetter, Transaction
from dockhand_webhook.inbox.event_codec import SerializedEvent
from dockhand_webhook.inbox.event_table import enqueue, to_rows

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "FailedDelivery",
    "UnreadableNotification",
    "add_dead_letter",
]

SCHEMA = """
CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    died REAL NOT NULL,
    reason TEXT NOT NULL,
    connection TEXT NOT NULL,
    handler TEXT,
    event INTEGER,
    attempts INTEGER NOT NULL,
    headers TEXT,
    body BLOB,
    size INTEGER
);
"""
_SELECT = (
    "SELECT dead.id, died, reason, dead.connection, handler, attempts, kind, data, headers, body, "
    "size FROM dead LEFT JOIN events ON seq = event"
)
_REASON_LENGTH = 2000  # characters; a longer reason is cut off


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """A delivery whose last attempt failed.

    Attributes:
        handler: the handler's name.
        sequence: the event's position in the order of arrival.
        attempts: number of attempts, all of them failed.
    """

    handler: str
    sequence: int
    attempts: int


@dataclass(frozen=True, slots=True)
class UnreadableNotification:
    """A notification that no parser could read.

    Attributes:
        headers: the headers of the request, without those that may hold secrets.
        body: the beginning of the request's body, or the whole body if it is short.
        size: size of the whole body, in bytes.
    """

    headers: Mapping[str, str]
    body: bytes
    size: int


def add_dead_letter(
    transaction: Transaction,
    now: float,
    reason: str,
    connection: str,
    content: FailedDelivery | UnreadableNotification,
) -> None:
    """Add a dead letter; see `DeadLetter` for the arguments."""
    row: tuple[object, ...]
    if isinstance(content, FailedDelivery):
        found = transaction.execute(
            "SELECT LENGTH(data) FROM events WHERE seq = ?", (content.sequence,)
        ).fetchone()
        size = kept = found[0] if found is not None else 0
        row = (content.handler, content.sequence, content.attempts, None, None, size)
    else:
        headers, kept = json.dumps(dict(content.headers)), len(content.body)
        row = (None, None, 0, headers, content.body, content.size)
    transaction.execute(
        "INSERT INTO dead (died, reason, connection, handler, event, attempts, headers, body, "
        "size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (now, _storable(reason[:_REASON_LENGTH]), connection, *row),
    )
    added = NewDeadLetter(connection, isinstance(content, FailedDelivery), kept)
    transaction.new_dead_letters.append(added)


def _storable(text: str) -> str:
    """Escape lone surrogates: text from outside may contain them, but SQLite refuses them."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An unreadable notification, or an event whose delivery to a handler was given up.

    Attributes:
        id: number that identifies the dead letter.
        died: time at which the dead letter was created.
        reason: why the notification is unreadable, or the error of the last attempt.
        connection: the connection name in the route of the notification; empty if none.
        handler: name of the handler that failed; None for an unreadable notification.
        attempts: number of calls of the handler; 0 for an unreadable notification.
        event: the event that the handler failed at; None for an unreadable notification.
        notification: the unreadable notification; None if a handler failed.
    """

    id: int
    died: datetime
    reason: str
    connection: str
    handler: str | None = None
    attempts: int = 0
    event: SerializedEvent | None = None
    notification: UnreadableNotification | None = None

    @property
    def summary(self) -> str:
        """A short description, for lists of dead letters."""
        if self.event is not None:
            try:
                event = self.event.deserialize()
            except Exception:  # a missing plugin must not make the whole list fail
                return f"{self.event.kind} (its class cannot be loaded)"
            return f"{type(event).__name__} {event.repository} {event.id}"
        assert self.notification is not None
        return f"a notification of {self.notification.size} bytes"


class DeadLetters:
    """The dead letters of an inbox.

    Args:
        database: the inbox's database.
        clock: returns the time, in seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def page(self, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Read a page of dead letters, oldest first.

        Args:
            limit: maximum number of dead letters on the page.
            after: id of the last dead letter on the page before; 0 for the first page.

        Raises:
            InboxError: the inbox cannot be read.
        """
        return self._select("WHERE dead.id > ? ORDER BY dead.id LIMIT ?", after, limit)

    def get(self, letter_id: int) -> DeadLetter:
        """Read the dead letter with the given id.

        Raises:
            DeadLetterUnknown: the dead letter does not exist.
            InboxError: the inbox cannot be read.
        """
        found = self._select("WHERE dead.id = ?", letter_id)
        if not found:
            raise DeadLetterUnknown(f"there is no dead letter {letter_id}")
        return found[0]

    def _select(self, condition: str, *values: object) -> list[DeadLetter]:
        with self._database.reading() as connection:
            rows = connection.execute(f"{_SELECT} {condition}", values).fetchall()
        return [_from_row(row) for row in rows]

    def replay(self, letter_id: int, parsers: EventParsers) -> None:
        """Try the event or the notification of a dead letter again, and delete the dead letter.

        An event whose delivery failed is delivered to the same handler again, before newer events
        of its partition. An unreadable notification is parsed again, since a plugin may provide a
        parser by now; its events are stored as if they had just arrived.

        Args:
            letter_id: the id of the dead letter.
            parsers: the parsers of notifications.

        Raises:
            DeadLetterUnknown: the dead letter does not exist.
            DeadLetterError: its handler is unknown, or its notification was too large to be stored
                whole.
            EventInvalid: the notification is still unreadable; it stays a dead letter.
            InboxError: the inbox cannot be read or written.
        """
        letter = self.get(letter_id)
        if letter.notification is None:
            self._database.write(lambda transaction: self._requeue(transaction, letter_id))
            return
        if letter.notification.size > len(letter.notification.body):
            raise DeadLetterError(
                f"dead letter {letter_id}: of its {letter.notification.size} bytes only the first "
                f"{len(letter.notification.body)} were kept, so it cannot be read again"
            )
        headers = EventHeaders(letter.notification.headers)
        events = parsers.parse(headers, letter.notification.body, letter.connection or None)
        rows = to_rows(letter.connection, events)

        def work(transaction: Transaction) -> None:
            self._delete(transaction, letter_id)
            enqueue(transaction, self._clock(), letter.connection, rows)

        self._database.write(work)

    def _requeue(self, transaction: Transaction, letter_id: int) -> None:
        """Turn the dead letter of a failed delivery into a delivery that is due now."""
        row = transaction.execute(
            "SELECT handlers.id, event, events.lane FROM dead "
            "JOIN events ON seq = event LEFT JOIN handlers ON name = handler WHERE dead.id = ?",
            (letter_id,),
        ).fetchone()
        if row is None:
            raise DeadLetterUnknown(f"there is no dead letter {letter_id}")
        handler_id, sequence, partition = row
        if handler_id is None:
            raise DeadLetterError(
                f"dead letter {letter_id}: its handler is not known any more; start a worker "
                "with the plugin that has it, and try again"
            )
        transaction.execute(
            "INSERT OR IGNORE INTO deliveries (handler, lane, event) VALUES (?, ?, ?)",
            (handler_id, partition, sequence),
        )
        # If the partition waits for a retry, it becomes due now. If it is claimed, it stays so.
        transaction.execute(
            "INSERT INTO lanes (handler, lane, due) VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET due = excluded.due WHERE owner IS NULL",
            (handler_id, partition, self._clock()),
        )
        self._delete(transaction, letter_id)

    def drop(self, letter_id: int) -> None:
        """Delete a dead letter.

        Raises:
            DeadLetterUnknown: the dead letter does not exist.
            InboxError: the inbox cannot be written.
        """
        self._database.write(lambda transaction: self._delete(transaction, letter_id))

    def _delete(self, transaction: Transaction, letter_id: int) -> None:
        if not transaction.execute("DELETE FROM dead WHERE id = ?", (letter_id,)).rowcount:
            raise DeadLetterUnknown(f"there is no dead letter {letter_id}")


def _from_row(row: tuple[Any, ...]) -> DeadLetter:
    letter_id, died, reason, connection, handler, attempts, kind, data, headers, body, size = row
    is_event = handler is not None
    return DeadLetter(
        id=letter_id,
        died=datetime.fromtimestamp(died, UTC),
        reason=reason,
        connection=connection,
        handler=handler,
        attempts=attempts,
        event=SerializedEvent(kind, data, connection) if is_event else None,
        notification=None if is_event else UnreadableNotification(json.loads(headers), body, size),
    )
