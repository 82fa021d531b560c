"""Concurrent flows that add further flows while they run."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Hashable
from typing import Any

from dockhand_core.flow import Flow, Until, parallel
from dockhand_core.lazy import futures

__all__ = ["Shared", "TaskPool"]


class TaskPool:
    """A queue of flows that a number of workers run; each flow may add more.

    Args:
        limit: number of flows that run at a time.
        stop: called when a flow has failed or the pool was interrupted, or None.
    """

    def __init__(self, limit: int, stop: Callable[[], object] | None = None) -> None:
        self._limit, self._stop = limit, stop
        self._tasks: list[tuple[int, int, Flow[None]]] = []
        self._count = self._running = 0
        self._idle: list[futures.Future[None]] = []
        self._paused = False
        self._lock = threading.Lock()

    def add(self, flow: Flow[None], priority: int = 0) -> None:
        """Add a flow; those with the lowest priority number are run first, in their order."""
        with self._lock:
            self._count += 1
            heapq.heappush(self._tasks, (priority, self._count, flow))
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            idle.set_result(None)

    def pause(self) -> None:
        """Begin no more flows; `run` returns when the running flows have ended."""
        with self._lock:
            self._paused = True
        self._wake()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def run(self) -> Flow[None]:
        """Run the flows until none is left, or `pause` is called."""
        self._paused = False
        yield from parallel(
            (self._worker() for _ in range(self._limit)), limit=self._limit, stop=self._failed
        )

    def _failed(self) -> None:
        if self._stop is not None:
            self._stop()
        self.pause()

    def _worker(self) -> Flow[None]:
        while True:
            with self._lock:
                flow: Flow[None] | None = None
                idle: futures.Future[None] | None = None
                if self._tasks and not self._paused:
                    flow = heapq.heappop(self._tasks)[2]
                    self._running += 1
                elif self._running and not self._paused:
                    idle = futures.Future()
                    self._idle.append(idle)
            if idle is not None:
                yield Until(idle)
            elif flow is None:
                return
            else:
                try:
                    yield from flow
                finally:
                    self._ended()

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1
            done = not self._running and not self._tasks
        if done:
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.set_result(None)


class Shared:
    """Work that several flows need, and that only one of them does."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, futures.Future[None]] = {}
        self._done: set[Hashable] = set()
        self._lock = threading.Lock()

    def is_done(self, key: Hashable) -> bool:
        """Whether some work was done."""
        return key in self._done

    def once(self, key: Hashable, work: Callable[[], Flow[Any]]) -> Flow[bool]:
        """Do some work, unless another flow has done it, or is doing it now and succeeds.

        Args:
            key: names the work.
            work: makes the flow that does it.

        Returns:
            whether this flow did it.
        """
        while True:
            with self._lock:
                if key in self._done:
                    return False
                other = self._begun.get(key)
                if other is None:
                    mine = self._begun[key] = futures.Future[None]()
            if other is not None:
                yield Until(other)
                continue
            try:
                yield from work()
                with self._lock:
                    self._done.add(key)
                return True
            finally:
                with self._lock:
                    del self._begun[key]
                mine.set_result(None)
