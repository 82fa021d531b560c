"""Calls of handlers in this process: async handlers in the event loop, others in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from inspect import isawaitable

from dockhand_core.events import EventHandler, RegistryBaseEvent
from dockhand_webhook.dispatch.threads import HandlerThreads

__all__ = ["DeliveryDeferred", "HandlerFailed", "invoke"]

_GRACE = 1.0  # seconds that an async handler has to clean up after its cancellation


class HandlerFailed(Exception):  # the handler's outcome, not an error of Dockhand's
    """A handler did not return in time, or raised an exception that would end the process."""


class DeliveryDeferred(Exception):  # not an error of the handler's
    """A delivery was not made, through no fault of the handler; the attempt does not count.

    Args:
        wait: seconds after which to try again.
    """

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait


async def invoke(
    handler: EventHandler,
    event: RegistryBaseEvent,
    threads: HandlerThreads,
    *,
    timeout: float,
    on_hang: Callable[[], None],
) -> None:
    """Call a handler, wait until it has finished, and let its exceptions through.

    An async handler is cancelled after the timeout. A thread cannot be cancelled: a handler that
    hangs in one is waited for without limit, so that it is never called again while it still runs.

    Args:
        handler: the handler.
        event: the event it is called with.
        threads: the threads in which handlers run that are not async.
        timeout: seconds.
        on_hang: called when the handler still runs after the timeout.

    Raises:
        HandlerFailed: the handler was cancelled, or raised an exception that would end the process.
        DeliveryDeferred: the caller was cancelled, and the handler was stopped in time.
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
            on_hang()
            await asyncio.wait({task})
    except asyncio.CancelledError:  # the dispatcher stops
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_GRACE)
        if not (done and handler.is_async):
            raise  # the handler still runs
        if task.cancelled():
            raise DeliveryDeferred(0.0) from None
    if task.cancelled():
        why = f"did not return within {timeout:g} s, and was cancelled" if late else "was cancelled"
        raise HandlerFailed(why)
    task.result()


async def _run(handler: EventHandler, event: RegistryBaseEvent, threads: HandlerThreads) -> None:
    bound = functools.partial(handler.call, event=event)
    try:
        if handler.is_async:
            await bound()
            return
        result = await threads.run(bound)
        if isawaitable(result):  # a plain function may return a coroutine
            await result
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # it would end the event loop
        raise HandlerFailed(f"raised {type(error).__name__}") from error
