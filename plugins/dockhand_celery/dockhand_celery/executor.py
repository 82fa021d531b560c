"""The executor that hands deliveries out to Celery, and waits for their results.

Before a delivery is handed out, the inbox records it. So a process that takes the delivery over
later waits for the same task, under the same id. A task expires if no worker takes it in time, and
a worker ends it if it takes too long: after a known time it neither runs nor will run. Only then,
and only if it left no result, is the delivery handed out again.
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
_FIRST_POLL, _MAX_POLL = 0.02, 0.5  # seconds between two polls for a result
_GRACE = 5.0  # seconds for a worker to end a late task, and for clocks that differ
_RETRY_WAIT = 5.0  # seconds to wait when the broker, the backend or the workers are away


class CeleryExecutor:
    """Has handlers called by Celery's workers; for a `Dispatcher`, or `create_app`.

    Args:
        app: the Celery application, with a broker and a result backend that outlives a restart
            (not `rpc://`). Its workers have called `register_handlers`.
        timeout: seconds that a handler may take for an event. Workers of the pool `prefork` end a
            task that takes longer; other pools cannot.
        expires: seconds after which no worker starts a task any more.
        queue: the name of the Celery queue; the application's default queue unless given.
        clock: seconds since 1970. The workers' clocks must agree with it within some seconds.
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
        """Start a thread for the broker and one for the backend: both block."""
        self._send_thread = ThreadPoolExecutor(1, thread_name_prefix="celery-send")
        self._poll_thread = ThreadPoolExecutor(1, thread_name_prefix="celery-poll")

    async def run(
        self,
        delivery: ClaimedDelivery,
        queue: DeliveryQueue,
        on_hang: Callable[[], None],  # noqa: ARG002
    ) -> None:
        """Hand the delivery out, unless it is handed out already, and wait for the result.

        Raises:
            DeliveryDeferred: there was no broker, no worker took the task, or this process stops.
            TaskFailed: the handler failed, or its worker died.
        """
        try:
            if delivery.handed_out is None:
                delivery = await self._hand_out(delivery, queue)
            await self._wait_for_result(delivery, queue)
        except asyncio.CancelledError:  # the process that claims it next waits for the result
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
        except Exception as error:  # the broker may have it all the same: polling finds out
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
        """Poll the backend until the task has a result, or can have none any more."""
        assert delivery.handed_out is not None
        deadline = delivery.handed_out + self._expires + self._timeout + _GRACE
        wait = _FIRST_POLL
        while True:
            late = self._clock() > deadline  # before the poll: a poll after the deadline is final
            try:
                state, result = await self._poll(delivery)
            except Exception as error:  # a backend may raise any exception
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
        """The state of the task, and the result recorded with it."""
        task_id = _task_id(delivery)

        def get() -> tuple[str, Any]:
            meta = self._app.backend.get_task_meta(task_id, cache=False)
            return meta["status"], meta.get("result")

        return await asyncio.get_running_loop().run_in_executor(self._poll_thread, get)

    def close(self) -> None:
        """End the threads. New ones start if the executor is used again."""
        self._send_thread.shutdown(wait=False)
        self._poll_thread.shutdown(wait=False)
        self._start_threads()


def _task_id(delivery: ClaimedDelivery) -> str:
    """The id of the task for one handing out of a delivery, the same in every process."""
    key = f"{delivery.handler}\n{delivery.partition}\n{delivery.sequence}\n{delivery.handed_out!r}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key))
