"""The task that Celery's workers run: it calls one handler with one event.

The task writes its own records to Celery's result backend: that it started, and how it ended.
Waiting for results in Celery's own way takes a subscription for each task, which survives a restart
neither of the backend nor of the waiting process.
"""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from dockhand_webhook import SerializedEvent

from dockhand_core import Plugins
from dockhand_core.events import EventHandler, RegistryBaseEvent, event_handlers

if TYPE_CHECKING:
    from celery import Celery, Task

__all__ = ["FAILED", "STARTED", "SUCCEEDED", "TASK", "TaskFailed", "register_handlers"]

TASK = "dockhand.handle"
STARTED, SUCCEEDED, FAILED = "STARTED", "SUCCESS", "FAILURE"  # the names of Celery's own states
_ERROR_LENGTH = 2000  # characters of a handler's error that are recorded


class TaskFailed(Exception):  # the handler's outcome, not an error of Dockhand's
    """A handler or its worker failed; the message gives the reason."""


def register_handlers(app: Celery, plugins: Plugins | None = None) -> None:
    """Register the task that calls event handlers with a Celery application.

    Args:
        app: the application; it needs a result backend that outlives a restart.
        plugins: the plugins whose handlers are called; the installed plugins unless given
            (`dockhand.plugins` includes those registered on a manager). The process that hands the
            events out needs the same.

    Raises:
        PluginConflict: two plugins with the same name handle the same events.
    """
    handlers = event_handlers(plugins or Plugins())

    def handle(task: Task, handler: str, kind: str, data: str, connection: str) -> None:
        """Call a handler with an event; see `SerializedEvent` for the arguments."""
        record, task_id = task.backend.store_result, task.request.id
        record(task_id, None, STARTED)
        try:
            if handler not in handlers:
                raise TaskFailed(f"this worker has no handler {handler!r}")
            event = SerializedEvent(kind, data, connection).deserialize()
            _call(handlers[handler], event, task)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]
            record(task_id, TaskFailed(text), FAILED)
            raise
        record(task_id, None, SUCCEEDED)

    app.task(
        handle,
        name=TASK,
        bind=True,
        shared=False,  # by default every application of the process would get the task
        ignore_result=True,  # the task records its result itself
        acks_late=True,  # a task whose worker is killed goes to another worker
        reject_on_worker_lost=True,
    )


def _call(handler: EventHandler, event: RegistryBaseEvent, task: Task) -> None:
    result = handler.call(event=event)
    if isawaitable(result):
        soft_limit, _ = task.request.timelimit or (None, None)
        asyncio.run(_wait(result, soft_limit))


async def _wait(result: Any, seconds: float | None) -> None:
    # Celery's soft limit would interrupt the event loop instead of the handler.
    async with asyncio.timeout(seconds and seconds * 0.95):
        await result
