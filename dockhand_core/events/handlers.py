"""Who is told of events: the implementations of `dockhand_event` and of each class's hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dockhand_core.errors import PluginConflict
from dockhand_core.events.classes import EVENTS, RegistryBaseEvent
from dockhand_core.plugins import Plugins

__all__ = ["EventHandler", "event_handlers"]

_EVERY = "dockhand_event"
_HOOKS = (_EVERY, *(kind.hook for kind in EVENTS.values() if kind.hook))


@dataclass(frozen=True, slots=True)
class EventHandler:
    """One implementation of one hook.

    Attributes:
        name: `<plugin>/<hook>`, the same after a restart and in every process.
        call: takes the event by name, as `event`; may give an awaitable.
        is_async: whether it is an `async` function; others belong into a thread.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool

    def wants(self, event: RegistryBaseEvent) -> bool:
        """Whether events of that class are for this handler."""
        return wants(self.name, event)


def wants(handler: str, event: RegistryBaseEvent) -> bool:
    """Whether an event is for the handler of that name, which may be another process's."""
    return handler.rpartition("/")[2] in {_EVERY, event.hook}


def event_handlers(plugins: Plugins) -> dict[str, EventHandler]:
    """Every handler of a manager's plugins, by name.

    Raises:
        PluginConflict: two plugins have the same name, so that nobody could tell which of them
            was told of an event already.
    """
    found: dict[str, EventHandler] = {}
    for hook in _HOOKS:
        for plugin, call in plugins.implementations(hook):
            name = f"{plugin}/{hook}"
            if name in found:
                raise PluginConflict(
                    f"two plugins named {plugin!r} handle {hook}; register one of them by another "
                    "name, or name its package in DOCKHAND_DISABLE_PLUGINS"
                )
            found[name] = EventHandler(
                name, call, inspect.iscoroutinefunction(inspect.unwrap(call))
            )
    return found
