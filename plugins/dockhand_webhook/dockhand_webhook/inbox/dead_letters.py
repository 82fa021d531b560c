"""Dead letters: notifications that cannot be read, and events that a handler always failed at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dockhand_core.events import EventHeaders, EventParsers
from dockhand_webhook.errors import LetterError
from dockhand_webhook.inbox.database import Database, Transaction
from dockhand_webhook.inbox.event_codec import Stored
from dockhand_webhook.inbox.event_table import packed, store

__all__ = ["DeadLetter", "DeadLetters", "Delivery", "Unread", "bury"]

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
_REASON = 2000  # characters


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a handler was told of.

    Attributes:
        handler: its name.
        event: the event's place in the order of arrival.
        attempts: how often it was tried.
    """

    handler: str
    event: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Unread:
    """A notification that could not be read.

    Attributes:
        headers: of the request, without credentials.
        body: its first bytes.
        size: of the whole body, in bytes.
    """

    headers: Mapping[str, str]
    body: bytes
    size: int


def bury(
    transaction: Transaction, now: float, reason: str, connection: str, what: Delivery | Unread
) -> None:
    """Put something among the dead letters; see `DeadLetter` for the arguments."""
    row: tuple[object, ...]
    if isinstance(what, Delivery):
        row = (what.handler, what.event, what.attempts, None, None, None)
    else:
        row = (None, None, 0, json.dumps(dict(what.headers)), what.body, what.size)
    transaction.execute(
        "INSERT INTO dead (died, reason, connection, handler, event, attempts, headers, body, "
        "size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (now, _storable(reason[:_REASON]), connection, *row),
    )


def _storable(text: str) -> str:
    """What others said may hold half a character, which SQLite does not take."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A notification or an event that was given up.

    Attributes:
        id: its number, by which it is shown and replayed.
        died: when.
        reason: why.
        connection: the last part of the route by which it arrived; empty for none.
        handler: the handler that failed; None for a notification.
        attempts: how often it was tried.
        event: the event that the handler failed at.
        unread: the notification, as it arrived.
    """

    id: int
    died: datetime
    reason: str
    connection: str
    handler: str | None = None
    attempts: int = 0
    event: Stored | None = None
    unread: Unread | None = None

    @property
    def what(self) -> str:
        """In a few words what it is."""
        if self.event is not None:
            try:
                event = self.event.event()
            except Exception:  # a list shows the others all the same
                return f"{self.event.kind}, which cannot be read"
            return f"{type(event).__name__} {event.repository} {event.id}"
        assert self.unread is not None
        return f"a notification of {self.unread.size} bytes"


class DeadLetters:
    """The dead letters of an inbox.

    Args:
        database: the inbox's.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def held(self, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Dead letters, the oldest first.

        Args:
            limit: so many at most.
            after: the number of the last one that was seen.

        Raises:
            InboxError: the inbox cannot be read.
        """
        return self._select("WHERE dead.id > ? ORDER BY dead.id LIMIT ?", after, limit)

    def get(self, letter: int) -> DeadLetter:
        """A dead letter.

        Raises:
            LetterError: there is none of that number.
        """
        found = self._select("WHERE dead.id = ?", letter)
        if not found:
            raise LetterError(f"there is no dead letter {letter}")
        return found[0]

    def _select(self, condition: str, *values: object) -> list[DeadLetter]:
        with self._database.reading() as connection:
            rows = connection.execute(f"{_SELECT} {condition}", values).fetchall()
        return [_letter(row) for row in rows]

    def replay(self, letter: int, parsers: EventParsers) -> None:
        """Try a dead letter again.

        An event goes to the head of its lane, as it is older than what waits there. A notification
        is read again, for which a plugin may have brought a parser by now; its events are stored
        as if they had arrived just now.

        Args:
            letter: its number.
            parsers: what reads notifications.

        Raises:
            LetterError: there is none of that number, its handler is unknown, or it was too large
                to be kept whole.
            EventInvalid: the notification can still not be read; it stays a dead letter.
            InboxError: the inbox cannot be written.
        """
        found = self.get(letter)
        if found.unread is None:
            self._database.do(lambda transaction: self._again(transaction, letter))
            return
        if found.unread.size > len(found.unread.body):
            raise LetterError(
                f"dead letter {letter}: of its {found.unread.size} bytes only the first "
                f"{len(found.unread.body)} were kept, so it cannot be read again"
            )
        events = parsers.parse(EventHeaders(found.unread.headers), found.unread.body)
        rows = packed(found.connection, events)

        def work(transaction: Transaction) -> None:
            self._remove(transaction, letter)
            store(transaction, self._clock(), found.connection, rows)

        self._database.do(work)

    def _again(self, transaction: Transaction, letter: int) -> None:
        row = transaction.execute(
            "SELECT handlers.id, event, events.lane FROM dead "
            "JOIN events ON seq = event LEFT JOIN handlers ON name = handler WHERE dead.id = ?",
            (letter,),
        ).fetchone()
        if row is None:
            raise LetterError(f"there is no dead letter {letter}")
        number, event, lane = row
        if number is None:
            raise LetterError(
                f"dead letter {letter}: its handler is not known any more; start a worker with the "
                "plugin that has it, and try again"
            )
        transaction.execute(
            "INSERT OR IGNORE INTO deliveries (handler, lane, event) VALUES (?, ?, ?)",
            (number, lane, event),
        )
        # What is under way stays; what waits for its next attempt waits no longer than this.
        transaction.execute(
            "INSERT INTO lanes (handler, lane, due) VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET due = excluded.due WHERE owner IS NULL",
            (number, lane, self._clock()),
        )
        self._remove(transaction, letter)

    def drop(self, letter: int) -> None:
        """Forget a dead letter.

        Raises:
            LetterError: there is none of that number.
            InboxError: the inbox cannot be written.
        """
        self._database.do(lambda transaction: self._remove(transaction, letter))

    def _remove(self, transaction: Transaction, letter: int) -> None:
        if not transaction.execute("DELETE FROM dead WHERE id = ?", (letter,)).rowcount:
            raise LetterError(f"there is no dead letter {letter}")


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    number, died, reason, connection, handler, attempts, kind, data, headers, body, size = row
    return DeadLetter(
        id=number,
        died=datetime.fromtimestamp(died, UTC),
        reason=reason,
        connection=connection,
        handler=handler,
        attempts=attempts,
        event=Stored(kind, data, connection) if handler is not None else None,
        unread=Unread(json.loads(headers), body, size) if handler is None else None,
    )
