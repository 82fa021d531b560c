"""Calls in a thread beside the thread that makes them, such as the hash of a block that is sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

__all__ = ["Background"]

_INLINE = 4 << 20  # bytes; fewer are hashed sooner than a thread starts
_WAITING = 4  # calls; each may hold a block of bytes in memory

_Job: TypeAlias = "tuple[Callable[..., object], tuple[Any, ...]]"


class _Threads:
    """The number of threads that may be started. More than processors would only take turns."""

    free = threading.Semaphore(os.cpu_count() or 1)

    @classmethod
    def renew(cls) -> None:
        """Forget the threads of the parent, in a forked child."""
        cls.free = threading.Semaphore(os.cpu_count() or 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Threads.renew)


class Background:
    """Calls that run one after the other, after the first few bytes in a thread.

    OpenSSL hashes without holding the interpreter's lock. While there are as many threads as
    processors, calls run at once. The owner calls `settle` before it ends.
    """

    def __init__(self) -> None:
        self._size = 0
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._error: Exception | None = None

    def call(self, size: int, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that works on `size` bytes. Waits while too many calls have not begun.

        An exception of the function is raised by `settle`, and ends the calls.
        """
        self._size += size
        if self._thread is None:
            if self._size <= _INLINE or not _Threads.free.acquire(blocking=False):
                self._run((function, arguments))
                return
            for _ in range(_WAITING):
                self._room.put(None)
            self._thread = threading.Thread(target=self._work, name="dockhand-hash", daemon=True)
            self._thread.start()
        self._room.get()
        self._jobs.put((function, arguments))

    def settle(self) -> None:
        """Wait until all calls have ended, and raise the exception of the first that failed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()
            self._size = 0
            self._room = SimpleQueue()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(job)
            self._room.put(None)
        _Threads.free.release()

    def _run(self, job: _Job) -> None:
        function, arguments = job
        if self._error is None:
            try:
                function(*arguments)
            except Exception as error:
                self._error = error
