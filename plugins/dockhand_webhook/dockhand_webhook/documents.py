"""The JSON documents of the commands; `dead` and `tail` write those that the README describes."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["Dropped", "Forgotten", "HandlerStats", "ListedToken", "NewToken", "Replayed", "Stats"]


class NewToken(TypedDict):
    """The document of `dockhand notify-token --json`.

    Attributes:
        token: the token, a secret.
        connection: the connection whose route accepts the token, or null for every route.
        url: the URL to which the registry sends its notifications.
    """

    token: str
    connection: str | None
    url: str


class ListedToken(TypedDict):
    """An item of the list that `dockhand notify-token --list --json` writes.

    Attributes:
        id: the id, which `--revoke` takes; not a secret.
        created: the time at which the token was made.
        connection: the connection whose route accepts the token, or null for every route.
    """

    id: str
    created: str
    connection: str | None


class Replayed(TypedDict):
    """The document of `dockhand events replay --json`.

    Attributes:
        replayed: the ids of the dead letters that are tried again.
    """

    replayed: list[int]


class Dropped(TypedDict):
    """The document of `dockhand events drop --json`.

    Attributes:
        dropped: the ids of the dead letters that were deleted.
    """

    dropped: list[int]


class Forgotten(TypedDict):
    """The document of `dockhand events forget --json`.

    Attributes:
        handler: the handler's name.
        undelivered: the number of deliveries that waited for it.
    """

    handler: str
    undelivered: int


class HandlerStats(TypedDict):
    """The counts of a handler.

    Attributes:
        delivered: the number of calls that succeeded.
        failed: the number of calls that failed.
        dead: the number of events that became dead letters.
        waiting: the number of events that wait for delivery now.
        lag: seconds since the arrival of the oldest event that waits; 0 if none waits.
    """

    delivered: int
    failed: int
    dead: int
    waiting: int
    lag: float


class Stats(TypedDict):
    """The document of `dockhand events stats --json`.

    Attributes:
        received: the number of events that were stored.
        duplicated: the number of events that arrived when they were stored already.
        invalid: the number of notifications that could not be read.
        delivered, failed, waiting, lag: as for a handler, for all handlers together.
        dead: the number of dead letters so far.
        letters: the number of dead letters that exist now.
        deleted: the number of dead letters that were deleted because there were too many.
        handlers: the counts of each handler, by its name.
    """

    received: int
    duplicated: int
    invalid: int
    delivered: int
    failed: int
    dead: int
    waiting: int
    lag: float
    letters: int
    deleted: int
    handlers: dict[str, HandlerStats]
