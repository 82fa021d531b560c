"""The dispatcher: claims deliveries, passes them to an executor, and records the outcomes.

A delivery is one event for one handler. A partition is the deliveries of one handler for one
connection and repository. The deliveries of a partition are made in order; different partitions
are worked on concurrently.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dockhand_core.events import EventHandler, RegistryBaseEvent
from dockhand_webhook.dispatch.invoke import DeliveryDeferred, invoke
from dockhand_webhook.dispatch.threads import HandlerThreads
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.deliveries import ClaimedDelivery, DeliveryQueue
from dockhand_webhook.inbox.inbox import Inbox

__all__ = ["DeliveryExecutor", "Dispatcher", "InProcessExecutor"]

_log = logging.getLogger("dockhand.webhook")
_POLL_INTERVAL = 0.5  # seconds between searches for retries and for other processes' new events
_STOP_TIMEOUT = 5.0  # seconds; limit for recording the outcomes of cancelled handlers
_MAX_TURN = 1.0  # seconds after which a partition gives its slot up, so that others get a turn

# A function that records the outcome of a delivery. Its argument is `keep_partition`; it returns
# the next delivery of the partition.
_RecordOutcome = Callable[[bool], Awaitable[ClaimedDelivery | None]]


class DeliveryExecutor(Protocol):
    """Calls handlers for a `Dispatcher`, in this process or elsewhere."""

    async def run(
        self, delivery: ClaimedDelivery, queue: DeliveryQueue, on_hang: Callable[[], None]
    ) -> None:
        """Call the handler, and wait until it has finished.

        Args:
            delivery: the delivery.
            queue: the queue from which it was claimed.
            on_hang: to be called if the handler still runs after its timeout. `run` must then keep
                waiting for the handler.

        Raises:
            DeliveryDeferred: the handler could not be called; the delivery will be tried again.
            Exception: the handler failed.
        """

    def close(self) -> None:
        """Release resources such as threads. It must be possible to use the executor again."""


class InProcessExecutor:
    """Calls handlers in this process.

    Args:
        handlers: the handlers, by name.
        timeout: seconds that a call may take.
    """

    def __init__(self, handlers: Mapping[str, EventHandler], timeout: float) -> None:
        self._handlers, self._timeout = handlers, timeout
        self._threads = HandlerThreads()

    async def run(
        self,
        delivery: ClaimedDelivery,
        queue: DeliveryQueue,  # noqa: ARG002
        on_hang: Callable[[], None],
    ) -> None:
        """Call the handler with the event; see `DeliveryExecutor`."""
        handler = self._handlers[delivery.handler]
        event: RegistryBaseEvent = delivery.event.deserialize()
        await invoke(handler, event, self._threads, timeout=self._timeout, on_hang=on_hang)

    def close(self) -> None:
        """End the idle threads."""
        self._threads.close()


@dataclass
class _Slot:
    """One of a handler's `concurrency` slots; released early if the handler hangs."""

    used_slots: dict[int, int]
    handler_id: int
    is_held: bool = True

    def release(self) -> None:
        if self.is_held:
            self.is_held = False
            self.used_slots[self.handler_id] -= 1


class Dispatcher:
    """Makes the deliveries of an inbox. Several processes can run a dispatcher for the same inbox.

    Args:
        inbox: the inbox.
        handlers: a mapping with the handlers' names as keys; its values are not used.
        executor: calls the handlers.
        concurrency: maximum number of partitions in progress for each handler.
        backoff: when failed deliveries are retried, and how often.
        lease: seconds after which another process takes over the deliveries of this process if this
            process has died.
    """

    def __init__(
        self,
        inbox: Inbox,
        handlers: Mapping[str, object],
        executor: DeliveryExecutor,
        *,
        concurrency: int = 16,
        backoff: Backoff | None = None,
        lease: float = 15.0,
    ) -> None:
        self._handlers, self._executor, self._concurrency = tuple(handlers), executor, concurrency
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._queue = inbox.delivery_queue(owner, backoff or Backoff(), lease)
        self._used_slots: dict[int, int] = {}
        self._in_progress: dict[asyncio.Task[None], ClaimedDelivery] = {}
        self._woken = asyncio.Event()
        self._claiming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to make deliveries.

        A handler that was never registered in this inbox gets no events that were stored before.

        Raises:
            InboxError: the inbox cannot be written.
        """
        handler_ids = await self._queue.register(self._handlers)
        self._used_slots = dict.fromkeys(handler_ids.values(), 0)
        self._claiming = asyncio.create_task(self._claim_forever(), name="dispatcher")

    async def stop(self, grace: float = 10.0) -> None:
        """Start no more deliveries, and wait until the deliveries in progress have ended.

        Args:
            grace: maximum number of seconds to wait. After that, async handlers are cancelled, and
                their deliveries will be made again. Other handlers keep running in their threads,
                and their partitions stay claimed until the lease ends.
        """
        if self._claiming is None:
            return
        self._claiming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._claiming
        self._claiming = None
        if self._in_progress:
            await asyncio.wait(self._in_progress, timeout=grace)
        left = list(self._in_progress)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_STOP_TIMEOUT)
        self._executor.close()

    def wake(self) -> None:
        """Look for due deliveries now, before the next poll. Called after an event was stored."""
        self._woken.set()

    async def _claim_forever(self) -> None:
        renew_at = time.monotonic() + self._queue.lease / 3
        while True:
            try:
                if time.monotonic() >= renew_at:
                    await self._queue.renew(self._in_progress.values())
                    renew_at = time.monotonic() + self._queue.lease / 3
                self._woken.clear()
                capacity = {
                    handler_id: self._concurrency - used
                    for handler_id, used in self._used_slots.items()
                    if used < self._concurrency
                }
                if capacity:
                    await self._claim(capacity)
            except InboxError as error:
                _log.error("deliveries wait: %s", error)
                await asyncio.sleep(_POLL_INTERVAL)
            except Exception:  # if this task ended, no handler would be called any more
                _log.exception("deliveries wait")
                await asyncio.sleep(_POLL_INTERVAL)
            until = min(_POLL_INTERVAL, max(0.0, renew_at - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                # Not asyncio.wait_for, which may lose a cancellation in Python 3.11.
                async with asyncio.timeout(until):
                    await self._woken.wait()

    async def _claim(self, capacity: dict[int, int]) -> None:
        """Claim due partitions and start their deliveries. If cancelled, release all the claims."""
        claiming = asyncio.ensure_future(self._queue.claim(capacity, self._in_progress.values()))
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(InboxError):
                for delivery in await claiming:
                    await self._queue.release(delivery)
            raise
        for delivery in claimed:
            self._start_partition(delivery)

    def _start_partition(self, delivery: ClaimedDelivery) -> None:
        self._used_slots[delivery.handler_id] += 1
        slot = _Slot(self._used_slots, delivery.handler_id)
        task = asyncio.create_task(self._run_partition(delivery, slot))
        self._in_progress[task] = delivery
        task.add_done_callback(self._partition_done)

    def _partition_done(self, task: asyncio.Task[None]) -> None:
        del self._in_progress[task]
        if not task.cancelled() and task.exception():
            _log.error("deliveries of a repository broke off", exc_info=task.exception())
        self.wake()

    async def _run_partition(self, delivery: ClaimedDelivery | None, slot: _Slot) -> None:
        """Make the deliveries of a partition in order, until none is left or the turn is over."""
        turn_ends = time.monotonic() + _MAX_TURN
        try:
            while delivery is not None:
                record = await self._deliver(delivery, slot)
                # If the handler exceeded its timeout, `on_hang` has released the slot.
                keep_partition = (
                    self._claiming is not None and slot.is_held and time.monotonic() < turn_ends
                )
                delivery = await self._record(record, keep_partition)
                if delivery is not None:
                    self._in_progress[_current_task()] = delivery
        finally:
            slot.release()

    async def _deliver(self, delivery: ClaimedDelivery, slot: _Slot) -> _RecordOutcome:
        """Make one delivery.

        Returns:
            a function that records the outcome in the inbox.
        """
        started = time.monotonic()

        def on_hang() -> None:
            _log.error(
                "handler %s still runs after %.0f s with event %d; later events of %r wait for it",
                delivery.handler, time.monotonic() - started, delivery.sequence,
                delivery.partition,
            )  # fmt: skip
            slot.release()
            self.wake()

        try:
            await self._executor.run(delivery, self._queue, on_hang)
        except DeliveryDeferred as deferred:
            return functools.partial(self._release, delivery, deferred.wait)
        except Exception as error:
            _log.warning(
                "handler %s failed at event %d, attempt %d", delivery.handler, delivery.sequence,
                delivery.attempts + 1, exc_info=error,
            )  # fmt: skip
            text = _describe(error)
            return lambda keep: self._queue.mark_failed(delivery, text, keep_partition=keep)
        return lambda keep: self._queue.mark_succeeded(delivery, keep_partition=keep)

    async def _release(
        self,
        delivery: ClaimedDelivery,
        wait: float,
        keep_partition: bool,  # noqa: ARG002
    ) -> None:
        await self._queue.release(delivery, wait)

    async def _record(self, record: _RecordOutcome, keep_partition: bool) -> ClaimedDelivery | None:
        """Record an outcome; try until it is stored, so that the handler is not called twice."""
        while True:
            try:
                return await record(keep_partition)
            except InboxError as error:
                _log.error("what a handler did cannot be noted: %s", error)
                await asyncio.sleep(_POLL_INTERVAL)


def _describe(error: Exception) -> str:
    """The class and the text of an exception; the class alone if its `__str__` raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
