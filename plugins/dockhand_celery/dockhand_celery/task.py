"""The Celery task that calls one handler with one event.

The task itself stores its state and its result in Celery's result backend, which the executor
polls. Celery's own way to wait for a result needs a subscription for each task, and a subscription
is lost if the backend or the waiting process restarts.
"""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from dockhand_webhook import SerializedEvent

from dockhand_core import Plugins
from dockhand_core.events import EventHandler, RegistryBaseEvent, event_handlers
from dockhand_core.server import load_manager

if TYPE_CHECKING:
    from celery import Celery, Task

__all__ = ["FAILED", "STARTED", "SUCCEEDED", "TASK", "TaskFailed", "register_handlers"]

TASK = "dockhand.handle"
STARTED, SUCCEEDED, FAILED = "STARTED", "SUCCESS", "FAILURE"  # the names of Celery's own states
_ERROR_LENGTH = 2000  # characters; a longer error text of a handler is cut off


class TaskFailed(Exception):  # not a DockhandError, because it reports an error of the handler
    """A handler failed, or the worker that ran it died; the message gives the reason."""


def register_handlers(app: Celery, plugins: Plugins | None = None) -> None:
    """Add the task that calls event handlers to a Celery application.

    Args:
        app: the Celery application. Its result backend must keep results across a restart.
        plugins: the plugins whose handlers are called; unless given, the installed plugins, which
            get the settings in `dockhand.toml` and the environment. To include plugins registered
            on a manager, pass its `plugins`. The process that hands events out needs the same
            plugins.

    Raises:
        PluginConflict: two plugins with the same name handle the same events.
        PluginError: a plugin is broken, and `DOCKHAND_STRICT_PLUGINS` is set.
        ConfigError: the settings of a plugin are wrong.
    """
    if plugins is None:
        plugins = load_manager().plugins
    else:
        plugins.check()
    handlers = event_handlers(plugins)
    broken = "; ".join(map(str, plugins.failures))

    def handle(task: Task, handler: str, kind: str, data: str, connection: str) -> None:
        """Call a handler with an event.

        Args:
            task: the running task.
            handler: the handler's name.
            kind: as in `SerializedEvent`.
            data: as in `SerializedEvent`.
            connection: as in `SerializedEvent`.
        """
        record, task_id = task.backend.store_result, task.request.id
        record(task_id, None, STARTED)
        try:
            if handler not in handlers:
                raise TaskFailed(
                    f"this worker has no handler {handler!r}"
                    + (f"; plugins that could not be loaded: {broken}" if broken else "")
                )
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
        shared=False,  # by default, every Celery application in the process gets the task
        ignore_result=True,  # `handle` stores the result itself
        acks_late=True,  # if a worker is killed, another worker gets its task
        reject_on_worker_lost=True,
    )


def _call(handler: EventHandler, event: RegistryBaseEvent, task: Task) -> None:
    result = handler.call(event=event)
    if isawaitable(result):
        soft_limit, _ = task.request.timelimit or (None, None)
        asyncio.run(_wait(result, soft_limit))


async def _wait(result: Any, seconds: float | None) -> None:
    # Time out just before Celery's soft time limit: Celery's exception would be raised somewhere in
    # the event loop, and not in the handler.
    async with asyncio.timeout(seconds and seconds * 0.95):
        await result
