"""The task that Celery's workers run: it calls one handler with one event.

It keeps a record of its own in Celery's result backend: that it began, and how it ended. Results as
Celery sends them to whoever waits for one need a subscription for each task, which does not outlive
a restart of the backend or of the process that waits.
"""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from dockhand_webhook import Stored

from dockhand_core import Plugins
from dockhand_core.events import EventHandler, RegistryBaseEvent, event_handlers

if TYPE_CHECKING:
    from celery import Celery, Task

__all__ = ["BEGUN", "DONE", "FAILED", "TASK", "TaskFailed", "register_handlers"]

TASK = "dockhand.handle"
BEGUN, DONE, FAILED = "STARTED", "SUCCESS", "FAILURE"  # states that Celery knows as well
_ERROR = 2000  # characters that are kept of what a handler raised


class TaskFailed(Exception):  # it tells what happened
    """A handler failed in a worker; the message says how."""


def register_handlers(app: Celery, plugins: Plugins | None = None) -> None:
    """Make a Celery application's workers call the handlers of events.

    Args:
        app: the application; it needs a result backend that outlives a restart.
        plugins: whose hooks are called: those that are installed, unless given (`dockhand.plugins`
            has those registered on a manager as well). The process that takes from the inbox needs
            the same.

    Raises:
        PluginConflict: two plugins of one name handle the same events.
    """
    handlers = event_handlers(plugins or Plugins())

    def handle(task: Task, handler: str, kind: str, data: str, connection: str) -> None:
        """Call a handler with an event; see `Stored` for the arguments."""
        record, name = task.backend.store_result, task.request.id
        record(name, None, BEGUN)
        try:
            if handler not in handlers:
                raise TaskFailed(f"this worker has no handler {handler!r}")
            _call(handlers[handler], Stored(kind, data, connection).event(), task)
        except Exception as error:
            record(name, TaskFailed(f"{type(error).__name__}: {error}"[:_ERROR]), FAILED)
            raise
        record(name, None, DONE)

    app.task(
        handle,
        name=TASK,
        bind=True,
        shared=False,  # with every other application of the process, as it would be
        ignore_result=True,  # as for the rest: see above
        acks_late=True,  # a worker that is killed leaves the task to another one
        reject_on_worker_lost=True,
    )


def _call(handler: EventHandler, event: RegistryBaseEvent, task: Task) -> None:
    given = handler.call(event=event)
    if isawaitable(given):
        soft, _ = task.request.timelimit or (None, None)
        asyncio.run(_awaited(given, soft))


async def _awaited(given: Any, seconds: float | None) -> None:
    # Celery's soft limit would interrupt the loop, not the handler.
    async with asyncio.timeout(seconds and seconds * 0.95):
        await given
