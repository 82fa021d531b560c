"""Threads for handlers that are plain functions.

Those of `concurrent.futures` are waited for when the interpreter ends: one handler that hangs would
keep the process from ending. These are not. They are used again, since applications keep database
connections in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

__all__ = ["Threads"]

_IDLE = 32  # kept for later


class _Call(NamedTuple):
    function: Callable[[], Any]
    context: contextvars.Context
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Threads:
    """As many threads as there are calls under way; used from one event loop."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Call | None]] = []

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function in a thread. To cancel the future leaves the thread to itself."""
        loop = asyncio.get_running_loop()
        call = _Call(function, contextvars.copy_context(), loop.create_future(), loop)
        if self._idle:
            calls = self._idle.pop()
        else:
            calls = SimpleQueue()
            threading.Thread(target=self._work, args=(calls,), name="handler", daemon=True).start()
        calls.put(call)
        return call.future

    def close(self) -> None:
        """End the threads that do nothing."""
        while self._idle:
            self._idle.pop().put(None)

    def _work(self, calls: SimpleQueue[_Call | None]) -> None:
        while (call := calls.get()) is not None:
            result, error = None, None
            try:
                result = call.context.run(call.function)
            except BaseException as raised:  # whoever waits decides what that means
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                call.loop.call_soon_threadsafe(self._done, calls, call.future, result, error)
            del call, result, error  # not kept until the next call

    def _done(
        self,
        calls: SimpleQueue[_Call | None],
        future: asyncio.Future[Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if len(self._idle) < _IDLE:
            self._idle.append(calls)
        else:
            calls.put(None)
        if future.done():
            return
        if isinstance(error, StopIteration):  # which no future takes
            future.set_exception(RuntimeError("raised StopIteration"))
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
