"""Limits on the number of requests in progress, and connections that are kept for later requests.

The pools of httpcore and aiohttp have limits too, but these are not used. If an async request is
cancelled while it waits for a connection, httpcore 1.0 loses that connection's place in the pool
permanently. If threads share a pool, httpcore closes a connection that another thread was just
given: it counts as idle until that thread sends its request. And aiohttp has no timeout for the
wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeAlias, TypeVar

import httpx

from dockhand_core.http.transports.options import KEEPALIVE_SECONDS
from dockhand_core.http.transports.routes import Route
from dockhand_core.lazy import asyncio

__all__ = ["AsyncSlots", "KeptConnections", "OpenReply", "Slots"]

T = TypeVar("T")

# How many times longer a wait may be if other threads or tasks hold the slots.
_OTHERS_FACTOR = 10

Holder: TypeAlias = "threading.Thread | asyncio.Task[Any] | None"


class _Activity:
    """Tells slots that are in use from slots that are blocked.

    A wait for a slot goes on as long as the requests that hold the slots are being sent or
    received. It times out if they only wait for their owners to read on. This happens soon if the
    waiting thread or task is itself the owner, or if the owners have ended; other owners may be
    busy elsewhere meanwhile, for example with an upload to another registry.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: list[Holder] = []
        self._at_work = 0
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def working(self) -> Self:
        """The context manager that marks that a request is being sent or received."""
        return self

    def __enter__(self) -> None:
        with self._lock:
            self._at_work += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._at_work -= 1
            self._last = time.monotonic()

    def _remaining(self, me: Holder, started: float, timeout: float | None) -> float | None:
        """The time in seconds until the wait for a slot must be checked again; None for no limit.

        Args:
            me: the thread or task that waits.
            started: when the wait began.
            timeout: seconds without any activity after which the wait times out.

        Raises:
            httpx.PoolTimeout: the wait has timed out.
        """
        if timeout is None or self._at_work:
            return timeout
        idle = time.monotonic() - max(started, self._last)
        limit = timeout
        if not all(each is me or _ended(each) for each in self._holders):
            limit *= _OTHERS_FACTOR
        if idle >= limit:
            raise httpx.PoolTimeout(
                f"every connection is in use (max_connections = {self._count}), and nothing is "
                "read from them: close readers and writers that are open, or raise max_connections"
            )
        return min(limit - idle, timeout)


def _ended(holder: Holder) -> bool:
    if isinstance(holder, threading.Thread):
        return not holder.is_alive()
    return holder is None or holder.done()


class Slots(_Activity):
    """Slots for the requests of threads: taken before a request is sent, released at its end.

    Threads get slots in the order in which they asked.

    Args:
        count: the number of slots.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Condition] = deque()

    def take(self, timeout: float | None) -> Holder:
        """Wait for a free slot.

        Args:
            timeout: maximum time in seconds without progress of the requests that hold the slots,
                if this thread started them all; ten times as long otherwise. None for no limit.

        Returns:
            the argument for `release`.

        Raises:
            httpx.PoolTimeout: no slot became free in time.
        """
        started, me = time.monotonic(), threading.current_thread()
        with self._mutex:
            if self._waiting or len(self._holders) >= self._count:
                turn = threading.Condition(self._mutex)
                self._waiting.append(turn)
                try:
                    while self._waiting[0] is not turn or len(self._holders) >= self._count:
                        turn.wait(self._remaining(me, started, timeout))
                except BaseException:
                    self._waiting.remove(turn)
                    self._wake()
                    raise
                self._waiting.popleft()
            self._holders.append(me)
            self._wake()
        return me

    def release(self, holder: Holder) -> None:
        """Release one slot."""
        with self._mutex:
            self._holders.remove(holder)
            self._wake()

    def _wake(self) -> None:
        """Wake the thread whose turn it is, if there is a slot for it."""
        if self._waiting and len(self._holders) < self._count:
            self._waiting[0].notify()


class AsyncSlots(_Activity):
    """Slots for the requests of tasks; see `Slots`."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._free = asyncio.Semaphore(count)

    async def take(self, timeout: float | None) -> Holder:
        """Wait for a free slot; see `Slots.take`."""
        started, me = time.monotonic(), asyncio.current_task()
        while self._free.locked():
            try:
                async with asyncio.timeout(self._remaining(me, started, timeout)):
                    await self._free.acquire()
                break
            except TimeoutError:
                continue
        else:
            await self._free.acquire()  # does not wait
        self._holders.append(me)
        return me

    def release(self, holder: Holder) -> None:
        """Release one slot."""
        self._holders.remove(holder)
        self._free.release()


class OpenReply:
    """A reply that occupies a slot until its body is closed.

    Args:
        abandon: called if the body is collected as garbage without having been closed, in any
            thread, which may hold a lock. So it must not release the slot; it may leave that to the
            next request.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self._abandon = abandon
        self._closed = False

    def __del__(self) -> None:
        # An iterator may be collected, and close the body, after this call.
        if self._close_first():
            self._abandon()

    def _close_first(self) -> bool:
        """Mark the body as closed, and return whether it was open."""
        was_open, self._closed = not self._closed, True
        return was_open


class KeptConnections(Generic[T]):
    """Connections that no request uses, for later requests with the same route.

    A connection belongs to one request at a time, so that threads never share one. Its user calls
    the methods of this class from one thread at a time.

    Args:
        count: maximum number of connections, including those in use.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: list[tuple[float, Route, T]] = []  # the one that was used last is at the end
        self._used: set[T] = set()

    def take(self, route: Route) -> tuple[T | None, list[T]]:
        """Find a connection for a request that has a slot.

        Returns:
            a connection with this route, or None; and the connections to close, because they are
            too old or their place is needed.
        """
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        closing = [each for since, _, each in self._idle if since < oldest]
        self._idle = [entry for entry in self._idle if entry[0] >= oldest]
        for position in range(len(self._idle) - 1, -1, -1):
            if self._idle[position][1] == route:
                found = self._idle.pop(position)[2]
                self._used.add(found)
                return found, closing
        if self._idle and len(self._idle) + len(self._used) >= self._count:
            closing.append(self._idle.pop(0)[2])
        return None, closing

    def use(self, connection: T) -> None:
        """Add a new connection, which a request uses."""
        self._used.add(connection)

    def keep(self, connection: T, route: Route) -> bool:
        """Take a connection back; False if it was dropped meanwhile, so that it must be closed."""
        if connection not in self._used:
            return False
        self._used.discard(connection)
        self._idle.append((time.monotonic(), route, connection))
        return True

    def drop(self, connection: T) -> None:
        """Forget a connection that a request used."""
        self._used.discard(connection)

    def drop_all(self) -> list[T]:
        """Forget all connections, and return them, to be closed."""
        found = [*self._used, *(each for _, _, each in self._idle)]
        self._used.clear()
        self._idle.clear()
        return found
