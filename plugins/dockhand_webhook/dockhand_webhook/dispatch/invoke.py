"""Calling a handler in this process: async ones in the loop, others in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from inspect import isawaitable

from dockhand_core.events import EventHandler, RegistryBaseEvent
from dockhand_webhook.dispatch.threads import Threads

__all__ = ["HandlerFailed", "NotNow", "call"]

_GRACE = 1.0  # seconds that an async handler has to clean up when it is cancelled


class HandlerFailed(Exception):  # what happened, not what is wrong with us
    """A handler did what cannot be passed on: it did not return, or it asked the process to end."""


class NotNow(Exception):  # no error of a handler's
    """A delivery was not made, and that is not the handler's fault: the attempt does not count.

    Args:
        wait: seconds after which to try again.
    """

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait


async def call(
    handler: EventHandler,
    event: RegistryBaseEvent,
    threads: Threads,
    *,
    timeout: float,
    hangs: Callable[[], None],
) -> None:
    """Call a handler, and wait until it is done; what it raises is raised.

    An async handler is cancelled after its time. A thread cannot be: one that hangs is waited for,
    however long, so that it is never called a second time while it still runs.

    Args:
        handler: the handler.
        event: what it is told of.
        threads: where it runs, unless it is async.
        timeout: seconds.
        hangs: called when the time is over and it still runs.

    Raises:
        HandlerFailed: it was cancelled, or raised what would end the process.
        NotNow: whoever called this was cancelled, and the handler was stopped in time.
    """
    late = False
    task = asyncio.ensure_future(_run(handler, event, threads))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
        late = not done
        if late and handler.is_async:
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=_GRACE)
        if not done:
            hangs()
            await asyncio.wait({task})
    except asyncio.CancelledError:  # the dispatcher stops
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_GRACE)
        if not (done and handler.is_async):
            raise  # it still runs
        if task.cancelled():
            raise NotNow(0.0) from None
    if task.cancelled():
        why = f"did not return within {timeout:g} s, and was cancelled" if late else "was cancelled"
        raise HandlerFailed(why)
    task.result()


async def _run(handler: EventHandler, event: RegistryBaseEvent, threads: Threads) -> None:
    called = functools.partial(handler.call, event=event)
    try:
        if handler.is_async:
            await called()
            return
        given = await threads.run(called)
        if isawaitable(given):  # a plain function that gives a coroutine
            await given
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # it would end the loop, or the lane
        raise HandlerFailed(f"raised {type(error).__name__}") from error
