"""Locks that flows hold, in any thread or task of the process."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from dockhand_core.flow import Flow, Until

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["holding"]

T = TypeVar("T")

_guard = threading.Lock()
_held: dict[Hashable, Future[None]] = {}


def holding(key: Hashable, flow: Flow[T]) -> Flow[T]:
    """Run a flow while no other flow of this process holds the lock `key`.

    The other flows may run in other threads, event loops or clients. A flow must not ask for a lock
    that it holds.
    """
    from concurrent.futures import Future  # here, because most programs hold no lock

    released: Future[None] = Future()
    released.set_running_or_notify_cancel()  # from now on, no waiting task can cancel the future
    while True:
        with _guard:
            holder = _held.setdefault(key, released)
        if holder is released:
            break
        yield Until(holder)
    try:
        return (yield from flow)
    finally:
        with _guard:
            del _held[key]
        released.set_result(None)
