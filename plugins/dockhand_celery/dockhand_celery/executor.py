"""The executor that hands deliveries out to Celery and waits for their results.

Before a delivery is sent to the broker, the inbox records the time. The id of the Celery task is
derived from the delivery and this time. So if another process takes the delivery over, that process
waits for the same task.

A task expires if no worker starts it in time, and a worker ends a task that takes too long. So
there is a deadline after which a task can no longer run. If the task has no result by then, the
delivery is handed out again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dockhand_webhook import ClaimedDelivery, DeliveryDeferred, DeliveryQueue

from dockhand_celery.task import FAILED, STARTED, SUCCEEDED, TASK, TaskFailed

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["CeleryExecutor"]

_log = logging.getLogger("dockhand.celery")
_FIRST_POLL, _MAX_POLL = 0.02, 0.5  # seconds; shortest and longest wait between polls for a result
_GRACE = 5.0  # seconds; margin for workers to end late tasks, and for clocks that differ
_RETRY_WAIT = 5.0  # seconds until the next try if the broker, backend or workers do not respond


class CeleryExecutor:
    """Lets Celery's workers call the handlers. Pass it to a `Dispatcher` or to `create_app`.

    Args:
        app: the Celery application. Its result backend must keep results across a restart (not
            `rpc://`), and its workers must have called `register_handlers`.
        timeout: seconds that a handler may take for an event. Workers of the pool `prefork` end a
            task that takes longer; other pools cannot.
        expires: seconds within which a worker must start a task; the task expires after that.
        queue: the name of the Celery queue; the application's default queue unless given.
        clock: returns the time, in seconds since 1970. The workers' clocks may differ from it by a
            few seconds at most.
    """

    def __init__(
        self,
        app: Celery,
        *,
        timeout: float = 30.0,
        expires: float = 60.0,
        queue: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app, self._celery_queue, self._clock = app, queue, clock
        self._timeout, self._expires = timeout, expires
        self._start_threads()

    def _start_threads(self) -> None:
        """Create one thread for blocking calls to the broker and one for those to the backend."""
        self._send_thread = ThreadPoolExecutor(1, thread_name_prefix="celery-send")
        self._poll_thread = ThreadPoolExecutor(1, thread_name_prefix="celery-poll")

    async def run(
        self,
        delivery: ClaimedDelivery,
        queue: DeliveryQueue,
        on_hang: Callable[[], None],  # noqa: ARG002
    ) -> None:
        """Hand a delivery out, unless this was done before, and wait for the result of its task.

        Raises:
            DeliveryDeferred: the broker could not be reached, no worker started the task in time,
                another process has claimed the delivery, or this process is stopping.
            TaskFailed: the handler failed, or the worker that ran it died.
        """
        try:
            if delivery.handed_out is None:
                delivery = await self._hand_out(delivery, queue)
            await self._wait_for_result(delivery, queue)
        except asyncio.CancelledError:
            # Release the delivery: the next process that claims it waits for the same task.
            raise DeliveryDeferred(0.0) from None

    async def _hand_out(self, delivery: ClaimedDelivery, queue: DeliveryQueue) -> ClaimedDelivery:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._send_thread, self._connect)
        except Exception as error:
            _log.error("no broker: %s: %s; deliveries wait", type(error).__name__, error)
            raise DeliveryDeferred(_RETRY_WAIT) from None
        handed_out = await queue.mark_handed_out(delivery)
        if handed_out is None:
            raise DeliveryDeferred(0.0)
        try:
            await loop.run_in_executor(self._send_thread, self._send, handed_out)
        except Exception as error:
            # The broker may have received the task before the error, so wait for a result anyway.
            _log.error("a task may not have been sent: %s: %s", type(error).__name__, error)
        return handed_out

    def _connect(self) -> None:
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_GRACE)

    def _send(self, delivery: ClaimedDelivery) -> None:
        assert delivery.handed_out is not None
        left = delivery.handed_out + self._expires - self._clock()
        options: dict[str, Any] = {"queue": self._celery_queue} if self._celery_queue else {}
        event = delivery.event
        self._app.send_task(
            TASK,
            (delivery.handler, event.kind, event.data, event.connection),
            task_id=_task_id(delivery),
            expires=max(0.1, left),
            soft_time_limit=self._timeout,
            time_limit=self._timeout + _GRACE / 2,
            ignore_result=True,
            retry=False,
            **options,
        )

    async def _wait_for_result(self, delivery: ClaimedDelivery, queue: DeliveryQueue) -> None:
        """Poll the backend until the task has a result, or its deadline has passed."""
        assert delivery.handed_out is not None
        deadline = delivery.handed_out + self._expires + self._timeout + _GRACE
        wait = _FIRST_POLL
        while True:
            # Read the clock before the poll, so that at least one poll starts after the deadline.
            late = self._clock() > deadline
            try:
                state, result = await self._poll(delivery)
            except Exception as error:  # each backend raises exceptions of its own
                _log.error("no result backend: %s: %s", type(error).__name__, error)
                state, late, wait = "", False, _RETRY_WAIT
            if state == SUCCEEDED:
                return
            if state == FAILED:
                raise TaskFailed(str(result))
            if late and state == STARTED:
                raise TaskFailed("the worker ended while the handler ran, or took too long")
            if late:
                _log.warning("no worker took %s within %g s", delivery.handler, self._expires)
                await queue.clear_handed_out(delivery)
                raise DeliveryDeferred(_RETRY_WAIT)
            await asyncio.sleep(wait)
            wait = min(_MAX_POLL, wait * 1.5)

    async def _poll(self, delivery: ClaimedDelivery) -> tuple[str, Any]:
        """Read the state of the delivery's task, and its result if it has one."""
        task_id = _task_id(delivery)

        def get() -> tuple[str, Any]:
            meta = self._app.backend.get_task_meta(task_id, cache=False)
            return meta["status"], meta.get("result")

        return await asyncio.get_running_loop().run_in_executor(self._poll_thread, get)

    def close(self) -> None:
        """End the threads. The executor can be used again, with new threads."""
        self._send_thread.shutdown(wait=False)
        self._poll_thread.shutdown(wait=False)
        self._start_threads()


def _task_id(delivery: ClaimedDelivery) -> str:
    """The task id of a delivery, derived from the delivery and the time at which it was handed out.

    So every process computes the same id, and a delivery that is handed out again gets a new one.
    """
    key = f"{delivery.handler}\n{delivery.partition}\n{delivery.sequence}\n{delivery.handed_out!r}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key))
