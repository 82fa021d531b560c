"""Work in a thread beside a coroutine: one call at a time, such as the hash of the newest block."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dockhand_core.lazy import asyncio, futures

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["OneAhead", "end_of"]

_INLINE = 128 << 10  # bytes; a smaller block is hashed sooner than a thread wakes up


class _Threads:
    """The threads that hash for all async clients.

    The threads of the event loop may all be waiting for the reader whose block is to be hashed.
    """

    pool: ThreadPoolExecutor | None = None

    @classmethod
    def get(cls) -> ThreadPoolExecutor:
        if cls.pool is None:
            cls.pool = futures.ThreadPoolExecutor(
                os.cpu_count() or 1, thread_name_prefix="dockhand-hash"
            )
        return cls.pool


def _after_fork() -> None:
    _Threads.pool = None  # its threads are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class OneAhead:
    """A call in a thread, which runs while the caller's coroutine goes on.

    Its owner calls `settle` before it ends: a thread cannot be cancelled, and its files must not be
    closed meanwhile.
    """

    def __init__(self) -> None:
        self._pending: asyncio.Future[Any] | None = None

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a function that may wait, in a thread of the event loop."""
        loop = asyncio.get_running_loop()
        self._pending = loop.run_in_executor(None, function, *arguments)

    async def hash(self, size: int, function: Callable[..., object], *arguments: Any) -> None:
        """Start a function that hashes `size` bytes, when the one before has ended."""
        await self.settle()
        if size < _INLINE:
            function(*arguments)
            return
        loop = asyncio.get_running_loop()
        self._pending = loop.run_in_executor(_Threads.get(), function, *arguments)

    async def settle(self) -> Any:
        """Wait for the end of the call, even if cancelled, and return its result."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        await end_of(pending)
        return pending.result()


async def end_of(work: asyncio.Future[Any]) -> None:
    """Wait for the end of a future that stands for a thread; a cancellation is raised only then."""
    cancelled: BaseException | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:  # perhaps not for the first time
            cancelled = error
    if not work.cancelled():
        work.exception()  # retrieved, so that asyncio does not log it
    if cancelled is not None:
        raise cancelled
