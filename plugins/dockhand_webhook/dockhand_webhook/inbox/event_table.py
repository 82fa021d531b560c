"""The table of events. An event is stored once, with a delivery for each handler of its class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dockhand_core import EventInvalid
from dockhand_core.events import RegistryBaseEvent
from dockhand_webhook.inbox.database import Transaction
from dockhand_webhook.inbox.event_codec import serialize

__all__ = ["EventRow", "enqueue", "to_rows", "write_pending"]

# The column `lane` holds the event's partition; see `deliveries`.
SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    connection TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    hook TEXT NOT NULL,
    lane TEXT NOT NULL,
    received REAL NOT NULL,
    UNIQUE (connection, id)
);
CREATE INDEX events_received ON events (received);
"""
_ROWS_PER_STATEMENT = 64
_INSERT = "INSERT INTO events (connection, received, id, kind, data, hook, lane) VALUES"
_PLACEHOLDERS = "(?, ?, ?, ?, ?, ?, ?)"
_NEW_DELIVERIES = (
    "FROM events JOIN handlers ON handlers.hook IN ('dockhand_event', events.hook) WHERE seq > ?"
)


class EventRow(NamedTuple):
    """A row of the table, without the columns that all events of a notification share.

    Attributes:
        id: the event's id.
        kind: as in `SerializedEvent`.
        data: as in `SerializedEvent`.
        hook: name of the hook of the event's class; empty if the class has none.
        partition: `connection:repository`. Events of one partition are delivered in order.
    """

    id: str
    kind: str
    data: str
    hook: str
    partition: str


def to_rows(connection: str, events: Sequence[RegistryBaseEvent]) -> list[EventRow]:
    """Convert events to rows.

    Args:
        connection: the connection name in the route of the notification; empty if none.
        events: the events.

    Raises:
        EventInvalid: an event cannot be serialized. The error's `events` are all events that can.
    """
    rows, valid, reason = [], [], ""
    for event in events:
        try:
            kind, data = serialize(event)
        except EventInvalid as error:
            reason = reason or str(error)
            continue
        # Unambiguous, since neither connection names nor repository names contain a colon.
        partition = f"{connection}:{event.repository}"
        rows.append(EventRow(event.id, kind, data, event.hook or "", partition))
        valid.append(event)
    if reason:
        raise EventInvalid(reason, events=valid)
    return rows


def enqueue(
    transaction: Transaction, now: float, connection: str, rows: Iterable[EventRow]
) -> None:
    """Add events to the transaction's pending events, which `write_pending` writes later.

    Args:
        transaction: the transaction.
        now: the time of arrival, in seconds since 1970.
        connection: the connection name in the route of the notification; empty if none.
        rows: the events.
    """
    transaction.pending_events += [(connection, now, *row) for row in rows]


def write_pending(transaction: Transaction) -> None:
    """Write the pending events that are not stored yet, and their deliveries to handlers."""
    rows, execute = transaction.pending_events, transaction.execute
    if not rows:
        return
    ((last,),) = execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchall()
    new = 0
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        batch = rows[start : start + _ROWS_PER_STATEMENT]
        inserted = execute(
            f"{_INSERT} {', '.join([_PLACEHOLDERS] * len(batch))} ON CONFLICT DO NOTHING",
            [value for row in batch for value in row],
        )
        new += inserted.rowcount  # events that are stored already conflict, and are not counted
    transaction.counts["received", 0] += new
    transaction.counts["duplicated", 0] += len(rows) - new
    if new:
        execute(
            "INSERT INTO deliveries (handler, lane, event) "
            f"SELECT handlers.id, lane, seq {_NEW_DELIVERIES}",
            (last,),
        )
        execute(
            "INSERT INTO lanes (handler, lane, due) "
            f"SELECT handlers.id, lane, received {_NEW_DELIVERIES} ON CONFLICT DO NOTHING",
            (last,),
        )
