"""Threads for handlers that are plain functions.

At its exit, the interpreter waits for the threads of `concurrent.futures`, so a handler that hangs
in one of them would keep the process alive. The interpreter does not wait for daemon threads, so
this module uses daemon threads. They are reused, since applications keep a database connection per
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

__all__ = ["HandlerThreads"]

_MAX_IDLE = 32  # maximum number of idle threads that are kept for reuse


class _Call(NamedTuple):
    function: Callable[[], Any]
    context: contextvars.Context
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class HandlerThreads:
    """A pool of threads without an upper limit. Each pool must be used in one event loop only."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Call | None]] = []

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function in a thread. Cancelling the returned future does not stop the thread."""
        loop = asyncio.get_running_loop()
        call = _Call(function, contextvars.copy_context(), loop.create_future(), loop)
        if self._idle:
            calls = self._idle.pop()
        else:
            calls = SimpleQueue()
            thread = threading.Thread(
                target=self._run_calls, args=(calls,), name="handler", daemon=True
            )
            thread.start()
        calls.put(call)
        return call.future

    def close(self) -> None:
        """End the idle threads."""
        while self._idle:
            self._idle.pop().put(None)

    def _run_calls(self, calls: SimpleQueue[_Call | None]) -> None:
        while (call := calls.get()) is not None:
            result, error = None, None
            try:
                result = call.context.run(call.function)
            except BaseException as raised:  # raised again where the future is awaited
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing awaits the future
                call.loop.call_soon_threadsafe(self._finish, calls, call.future, result, error)
            del call, result, error  # so that an idle thread does not keep these objects alive

    def _finish(
        self,
        calls: SimpleQueue[_Call | None],
        future: asyncio.Future[Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(calls)
        else:
            calls.put(None)
        if future.done():
            return
        if isinstance(error, StopIteration):  # set_exception does not accept StopIteration
            future.set_exception(RuntimeError("raised StopIteration"))
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
