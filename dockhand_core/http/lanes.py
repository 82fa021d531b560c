"""Lanes: the connections of a client that transfers between two registries may occupy.

A transfer reads a blob from one registry while it sends it to another, so it occupies a connection
of each. If it took one and then waited for the other, two transfers in opposite directions could
wait for each other for ever. So it reserves all that it needs at once, before it begins. There are
as many lanes as connections (`max_connections`); other requests need no lane, because they occupy
one connection and end by themselves.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence

from dockhand_core.lazy import asyncio

__all__ = [
    "MAX_CONNECTIONS",
    "AsyncLanes",
    "Lanes",
    "new_condition",
    "reserve",
    "reserve_async",
]

MAX_CONNECTIONS = 32  # the default limit on the connections of a client


class _Shared:
    """The lock of all lanes of sync clients."""

    changed = threading.Condition()


_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = (
    weakref.WeakKeyDictionary()
)


def new_condition() -> None:
    """Replace the lock, which a thread of the parent process may have held at a fork."""
    _Shared.changed = threading.Condition()


class Lanes:
    """The lanes of a sync client.

    Args:
        count: the number of lanes.

    Attributes:
        free: the number of lanes that no transfer has reserved.
    """

    def __init__(self, count: int) -> None:
        self.count = self.free = count


class AsyncLanes:
    """The lanes of an async client, which has its own connections in each event loop.

    Args:
        count: the number of lanes in an event loop.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lanes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lanes] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> Lanes:
        """The lanes of the running event loop."""
        return self._lanes.setdefault(asyncio.get_running_loop(), Lanes(self.count))


def reserve(wanted: Sequence[Lanes]) -> Callable[[], None] | None:
    """Wait for a free lane of each kind, and reserve all of them at once.

    Args:
        wanted: the lanes; one that occurs twice needs two.

    Returns:
        a function that releases them, or None if there are never enough.
    """
    needed = Counter(wanted)
    if not _can_fit(needed):
        return None
    changed = _Shared.changed
    with changed:
        while not _fits(needed):
            changed.wait()
        _take(needed)

    def release() -> None:
        with changed:
            _take(needed, -1)
            changed.notify_all()

    return release


async def reserve_async(wanted: Sequence[AsyncLanes]) -> Callable[[], None] | None:
    """Wait like `reserve`, in an event loop."""
    needed = Counter(each.here() for each in wanted)
    if not _can_fit(needed):
        return None
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, [])
    while not _fits(needed):
        turn = loop.create_future()
        waiting.append(turn)
        await turn
    _take(needed)

    def release() -> None:
        _take(needed, -1)
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
        waiting.clear()

    return release


def _can_fit(needed: Counter[Lanes]) -> bool:
    return all(lanes.count >= number for lanes, number in needed.items())


def _fits(needed: Counter[Lanes]) -> bool:
    return all(lanes.free >= number for lanes, number in needed.items())


def _take(needed: Counter[Lanes], sign: int = 1) -> None:
    for lanes, number in needed.items():
        lanes.free -= sign * number
