"""Event handlers: implementations of `dockhand_event`, and of the event classes' own hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dockhand_core.errors import PluginConflict
from dockhand_core.events.classes import EVENTS, RegistryBaseEvent
from dockhand_core.plugins import Plugins

__all__ = ["EventHandler", "event_handlers"]

_HOOK_OF_ALL_EVENTS = "dockhand_event"
_HOOKS = (_HOOK_OF_ALL_EVENTS, *(kind.hook for kind in EVENTS.values() if kind.hook))


@dataclass(frozen=True, slots=True)
class EventHandler:
    """A plugin's implementation of an event hook.

    Attributes:
        name: `<plugin>/<hook>`; it is the same after a restart and in every process.
        call: function that takes the event as the keyword argument `event`; it may return an
            awaitable.
        is_async: whether `call` is an `async` function; other functions should run in a thread.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool

    def subscribes_to(self, event: RegistryBaseEvent) -> bool:
        """Whether this handler is called with events of the same class as `event`."""
        return self.name.rpartition("/")[2] in {_HOOK_OF_ALL_EVENTS, event.hook}


def event_handlers(plugins: Plugins) -> dict[str, EventHandler]:
    """Collect the event handlers of a manager's plugins, as a dict by handler name.

    Raises:
        PluginConflict: two plugins with the same name implement the same hook, so their handlers
            would have the same name, too.
    """
    handlers: dict[str, EventHandler] = {}
    for hook in _HOOKS:
        for plugin, call in plugins.implementations(hook):
            name = f"{plugin}/{hook}"
            if name in handlers:
                found = [i.package for i in plugins if i.name == plugin and hook in i.hooks]
                raise PluginConflict(
                    f"two plugins named {plugin!r} handle {hook}, of "
                    f"{' and '.join(sorted(found))}; register one of them by another name, or "
                    "name its package in DOCKHAND_DISABLE_PLUGINS"
                )
            handlers[name] = EventHandler(
                name, call, inspect.iscoroutinefunction(inspect.unwrap(call))
            )
    return handlers
