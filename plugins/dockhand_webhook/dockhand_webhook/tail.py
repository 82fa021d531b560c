"""The command `tail`: the events of an inbox, as they arrive.

It only reads the inbox, and needs none of the classes of its events.
"""

from __future__ import annotations

import argparse
import json
import select
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dockhand_core import ConfigError
from dockhand_core.text import printable
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.database import SCHEMA_VERSION

__all__ = ["tail"]

_INTERVAL = 250  # milliseconds between two looks for further events
_PAGE = 500  # events
_COLUMNS = "SELECT seq, received, connection, kind, data FROM events"
_Row = tuple[int, float, str, str, str]


def tail(options: argparse.Namespace) -> None:
    """Print the last events of the inbox, and with `--follow` each further one as it arrives."""
    with closing(_open(Path(options.inbox))) as inbox:
        try:
            for row in _rows(inbox, options.lines, options.follow):
                print(_json_line(row) if options.json else _line(row), flush=True)
        except sqlite3.Error as error:
            raise InboxError(f"{options.inbox}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    """Open an inbox for reading only; unlike `Inbox`, this creates no file.

    Raises:
        ConfigError: the file does not exist, or is not an inbox of this version.
    """
    try:
        if not path.is_file():
            raise ConfigError(
                f"inbox: {path}: there is no such file; start the receiver, which creates it, or "
                "name its inbox with --inbox"
            )
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None
        )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"inbox: {path}: {reason}") from None
    if version != SCHEMA_VERSION:
        connection.close()
        raise ConfigError(f"inbox: {path}: is not an inbox of this version of dockhand-webhook")
    return connection


def _rows(inbox: sqlite3.Connection, number: int, follow: bool) -> Iterator[_Row]:
    """Iterate over the last rows of the table of events, and then over the new ones."""
    ((last,),) = inbox.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchall()
    stored: list[_Row] = inbox.execute(
        f"{_COLUMNS} WHERE seq <= ? ORDER BY seq DESC LIMIT ?", (last, number)
    ).fetchall()
    yield from reversed(stored)
    while follow:
        new: list[_Row] = inbox.execute(
            f"{_COLUMNS} WHERE seq > ? ORDER BY seq LIMIT ?", (last, _PAGE)
        ).fetchall()
        yield from new
        if new:
            last = new[-1][0]
        else:
            _wait()


def _wait() -> None:
    """Wait for the next look at the inbox.

    Raises:
        BrokenPipeError: the reader of standard output has gone, so a later event could not be
            printed.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(_INTERVAL)):
        raise BrokenPipeError


def _line(row: _Row) -> str:
    _, received, connection, kind, data = row
    event = json.loads(data)
    when = _time(event.get("timestamp")) or datetime.fromtimestamp(received, UTC)
    where = event.get("repository") or "-"
    if event.get("tag"):
        where = f"{where}:{event['tag']}"
    elif event.get("digest"):
        where = f"{where}@{event['digest']}"
    fields = (
        f"{when:%Y-%m-%dT%H:%M:%SZ}",
        kind.rpartition(":")[2],
        where,
        event.get("actor_name") or "-",
        connection or "-",
    )
    return printable("  ".join(fields))


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _json_line(row: _Row) -> str:
    _, received, connection, kind, data = row
    event = json.loads(data)
    event.pop("raw", None)
    shown = {
        "class": kind.rpartition(":")[2],
        "received": datetime.fromtimestamp(received, UTC).isoformat().replace("+00:00", "Z"),
        "connection": connection or None,
        **event,
    }
    # JSON escapes all control characters but DEL.
    return json.dumps(shown).replace("\x7f", "\\u007f")
