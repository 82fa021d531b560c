"""Handing deliveries to Celery, and waiting for what came of them.

When a delivery is handed out, the inbox notes it first. So whichever process has the lane later
waits for the same task, under the same name. A task expires when no worker takes it for a while,
and a worker ends it when it takes too long: from a known time on it neither runs nor will. Only
then, and only if nothing was heard of it, is it handed out again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dockhand_webhook import Job, Lanes, NotNow

from dockhand_celery.task import BEGUN, DONE, FAILED, TASK, TaskFailed

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["CeleryRunner"]

_log = logging.getLogger("dockhand.celery")
_FIRST_LOOK, _LATER = 0.02, 0.5  # seconds between two looks at what came of a task
_GRACE = 5.0  # seconds for a worker to end what takes too long, and for clocks that differ
_AGAIN = 5.0  # seconds to wait where no broker or worker is there


class CeleryRunner:
    """Has handlers called by Celery's workers; for a `Dispatcher`, or `create_app`.

    Args:
        app: the Celery application, with a broker and a result backend that outlives a restart
            (not `rpc://`). Its workers have called `register_handlers`.
        timeout: seconds that a handler may take for an event. Workers of the pool `prefork` end
            what takes longer; in other pools nothing can.
        expires: seconds after which no worker begins a task any more.
        queue: the queue's name; the application's default one unless given.
        clock: seconds since 1970. That of the workers has to agree within some seconds.
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
        self._app, self._queue, self._clock = app, queue, clock
        self._timeout, self._expires = timeout, expires
        self._threads()

    def _threads(self) -> None:
        """A thread each, as neither broker nor backend is to be waited for in the loop."""
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="celery-send")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="celery-look")

    async def run(self, job: Job, lanes: Lanes, hangs: Callable[[], None]) -> None:  # noqa: ARG002
        """Hand the delivery out, unless it is already, and wait for what comes of it.

        Raises:
            NotNow: no broker or no worker took it, or this process stops.
            TaskFailed: the handler failed, or its worker died.
        """
        try:
            if job.handed is None:
                job = await self._hand_out(job, lanes)
            await self._result(job, lanes)
        except asyncio.CancelledError:  # whoever has the lane next waits for it
            raise NotNow(0.0) from None

    async def _hand_out(self, job: Job, lanes: Lanes) -> Job:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._sending, self._connect)
        except Exception as error:
            _log.error("no broker: %s: %s; deliveries wait", type(error).__name__, error)
            raise NotNow(_AGAIN) from None
        handed = await lanes.hand_out(job)
        if handed is None:
            raise NotNow(0.0)
        try:
            await loop.run_in_executor(self._sending, self._send, handed)
        except Exception as error:  # it may have arrived all the same: whoever looks will see
            _log.error("a task may not have been sent: %s: %s", type(error).__name__, error)
        return handed

    def _connect(self) -> None:
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_GRACE)

    def _send(self, job: Job) -> None:
        assert job.handed is not None
        left = job.handed + self._expires - self._clock()
        options: dict[str, Any] = {"queue": self._queue} if self._queue else {}
        self._app.send_task(
            TASK,
            (job.handler, job.stored.kind, job.stored.data, job.stored.connection),
            task_id=_name(job),
            expires=max(0.1, left),
            soft_time_limit=self._timeout,
            time_limit=self._timeout + _GRACE / 2,
            ignore_result=True,
            retry=False,
            **options,
        )

    async def _result(self, job: Job, lanes: Lanes) -> None:
        """Wait for a task's record."""
        assert job.handed is not None
        over = job.handed + self._expires + self._timeout + _GRACE
        wait = _FIRST_LOOK
        while True:
            late = self._clock() > over  # asked first: a look after that is the last one
            try:
                state, result = await self._look(job)
            except Exception as error:  # a backend may raise anything
                _log.error("no result backend: %s: %s", type(error).__name__, error)
                state, late, wait = "", False, _AGAIN
            if state == DONE:
                return
            if state == FAILED:
                raise TaskFailed(str(result))
            if late and state == BEGUN:
                raise TaskFailed("the worker ended while the handler ran, or took too long")
            if late:
                _log.warning("no worker took %s within %g s", job.handler, self._expires)
                await lanes.hand_in(job)
                raise NotNow(_AGAIN)
            await asyncio.sleep(wait)
            wait = min(_LATER, wait * 1.5)

    async def _look(self, job: Job) -> tuple[str, Any]:
        """A task's state, and what is recorded with it."""
        name = _name(job)

        def look() -> tuple[str, Any]:
            found = self._app.backend.get_task_meta(name, cache=False)
            return found["status"], found.get("result")

        return await asyncio.get_running_loop().run_in_executor(self._looking, look)

    def close(self) -> None:
        """End the threads; others begin if it is used again."""
        self._sending.shutdown(wait=False)
        self._looking.shutdown(wait=False)
        self._threads()


def _name(job: Job) -> str:
    """The same for everybody who knows when it was handed out, and no other's."""
    what = f"{job.handler}\n{job.lane}\n{job.event}\n{job.handed!r}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, what))
