"""What arrives: events are stored once, and noted for every handler that wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dockhand_core import EventInvalid
from dockhand_core.events import RegistryBaseEvent
from dockhand_webhook.inbox.database import Transaction
from dockhand_webhook.inbox.event_codec import pack

__all__ = ["Arrival", "flush", "packed", "store"]

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
_AT_ONCE = 64  # rows a statement
_INSERT = "INSERT INTO events (connection, received, id, kind, data, hook, lane) VALUES"
_ROW = "(?, ?, ?, ?, ?, ?, ?)"
_WANTED = (
    "FROM events JOIN handlers ON handlers.hook IN ('dockhand_event', events.hook) WHERE seq > ?"
)


class Arrival(NamedTuple):
    """What is kept of an event; see `Stored`. Its lane is by what it is kept in order."""

    id: str
    kind: str
    data: str
    hook: str
    lane: str


def packed(connection: str, events: Sequence[RegistryBaseEvent]) -> list[Arrival]:
    """Events as they are kept.

    Args:
        connection: the last part of the route by which they arrived; empty for none.
        events: the events.

    Raises:
        EventInvalid: one of them cannot be kept; the others are the error's `events`.
    """
    kept, good, wrong = [], [], ""
    for event in events:
        try:
            kind, data = pack(event)
        except EventInvalid as error:
            wrong = wrong or str(error)
            continue
        # No repository's name has a colon, nor has a connection's.
        lane = f"{connection}:{event.repository}"
        kept.append(Arrival(event.id, kind, data, event.hook or "", lane))
        good.append(event)
    if wrong:
        raise EventInvalid(wrong, events=good)
    return kept


def store(
    transaction: Transaction, now: float, connection: str, arrivals: Iterable[Arrival]
) -> None:
    """Have events stored with the transaction's end, those that are not there yet.

    Args:
        transaction: what it is done in.
        now: seconds since 1970.
        connection: the last part of the route; empty for none.
        arrivals: the events.
    """
    transaction.arrivals += [(connection, now, *arrival) for arrival in arrivals]


def flush(transaction: Transaction) -> None:
    """Store what arrived, and note it for every handler that wants it."""
    rows, execute = transaction.arrivals, transaction.execute
    if not rows:
        return
    ((last,),) = execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchall()
    new = 0
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        stored = execute(
            f"{_INSERT} {', '.join([_ROW] * len(some))} ON CONFLICT DO NOTHING",
            [value for row in some for value in row],
        )
        new += stored.rowcount  # registries repeat what they are not sure of
    transaction.counts["received", 0] += new
    transaction.counts["duplicated", 0] += len(rows) - new
    if new:
        execute(
            "INSERT INTO deliveries (handler, lane, event) "
            f"SELECT handlers.id, lane, seq {_WANTED}",
            (last,),
        )
        execute(
            f"INSERT INTO lanes (handler, lane, due) SELECT handlers.id, lane, received {_WANTED} "
            "ON CONFLICT DO NOTHING",
            (last,),
        )
