"""Deliver events to handlers through Celery's workers, on more than one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_celery.executor import CeleryExecutor
    from dockhand_celery.task import TaskFailed, register_handlers

__all__ = ["CeleryExecutor", "TaskFailed", "register_handlers"]

_HOMES = {"CeleryExecutor": "executor", "TaskFailed": "task", "register_handlers": "task"}

__getattr__ = lazy_exports(__name__, _HOMES)
