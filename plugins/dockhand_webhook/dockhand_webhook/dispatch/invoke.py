"""Calls of handlers in this process: of async handlers in the event loop, of others in threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from inspect import isawaitable

from dockhand_core.events import EventHandler, RegistryBaseEvent
from dockhand_webhook.dispatch.threads import HandlerThreads

__all__ = ["DeliveryDeferred", "HandlerFailed", "invoke"]

_GRACE = 1.0  # seconds; time for an async handler to clean up after its cancellation


class HandlerFailed(Exception):  # not a DockhandError, because it reports an error of the handler
    """A handler did not return in time, or raised an exception that would end the process."""


class DeliveryDeferred(Exception):  # makes the dispatcher release the delivery
    """A handler could not be called or was interrupted. This does not count as a failed attempt.

    Args:
        wait: seconds until the delivery may be tried again.
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
    """Call a handler, and wait until it has finished. Exceptions of the handler are passed on.

    An async handler is cancelled after the timeout. A handler in a thread cannot be cancelled, so
    this function waits for it without limit: the handler must not be called again while it runs.

    Args:
        handler: the handler.
        event: the argument of the handler.
        threads: the threads for handlers that are not async.
        timeout: seconds that the handler may take.
        on_hang: called if the handler still runs after the timeout and cannot be cancelled.

    Raises:
        HandlerFailed: the handler was cancelled, or raised an exception that would end the process.
        DeliveryDeferred: the dispatcher cancelled this call, and the handler was cancelled with it.
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
    except asyncio.CancelledError:  # the dispatcher is stopping
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_GRACE)
        if not (done and handler.is_async):
            raise  # the handler may still be running, so its partition must stay claimed
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
    except BaseException as error:  # such as SystemExit, which would end the event loop
        raise HandlerFailed(f"raised {type(error).__name__}") from error
