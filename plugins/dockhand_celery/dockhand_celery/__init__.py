"""Hands events to Celery, where one machine is not enough for their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_celery.runner import CeleryRunner
    from dockhand_celery.task import TaskFailed, register_handlers

__all__ = ["CeleryRunner", "TaskFailed", "register_handlers"]

_HOMES = {"CeleryRunner": "runner", "TaskFailed": "task", "register_handlers": "task"}

__getattr__ = lazy_exports(__name__, _HOMES)
