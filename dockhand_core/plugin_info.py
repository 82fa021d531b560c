"""Descriptions of plugins: packages, drivers, commands, hooks and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["DRIVER_HOOKS", "PluginInfo", "ProvidedCommand"]

# the hook that provides drivers of a kind
DRIVER_HOOKS = {
    "registry": "dockhand_registry_drivers",
    "auth": "dockhand_auth_drivers",
    "log": "dockhand_log_drivers",
}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin that was found or registered.

    Attributes:
        name: the entry point's name, or the name that the plugin was registered by.
        package: the distribution package of the entry point, or the module of a registered plugin.
        version: the package's version, or None for a registered plugin.
        provides: names of the plugin's drivers, by kind (`registry`, `auth`, `log`).
        error: the reason why the plugin could not be loaded, or None.
        hooks: names of the hooks that the plugin implements, sorted.
        commands: names of the plugin's commands, sorted.
        handlers: names of the plugin's event handlers, `<plugin>/<hook>`, sorted.
        make_parsers: the plugin's hook `dockhand_event_parsers`, or None.

    The last four are empty if the plugin could not be loaded, and are not compared.
    """

    name: str
    package: str
    version: str | None = None
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None
    hooks: tuple[str, ...] = field(default=(), compare=False)
    commands: tuple[str, ...] = field(default=(), compare=False)
    handlers: tuple[str, ...] = field(default=(), compare=False)
    make_parsers: Callable[[], Any] | None = field(default=None, compare=False, repr=False)

    @property
    def parsers(self) -> tuple[str, ...]:
        """Names of the classes of the plugin's event parsers, sorted; none if the hook fails.

        The hook is called when this is read: otherwise, only receivers import parsers.
        """
        if self.make_parsers is None:
            return ()
        try:
            return tuple(sorted(type(parser).__qualname__ for parser in self.make_parsers()))
        except Exception:  # of a plugin; `EventParsers` reports it
            return ()

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        state = f"cannot be loaded: {self.error}" if self.error else self._summary()
        return f"{self.name} ({self.package}{version}): {state}"

    def _summary(self) -> str:
        shown = [
            *DRIVER_HOOKS.values(),
            "dockhand_commands",
            *(h.partition("/")[2] for h in self.handlers),
        ]
        parts = {
            **self.provides,
            "commands": self.commands,
            "event handlers": self.handlers,
            "hooks": [hook for hook in self.hooks if hook not in shown],
        }
        text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        return text or "provides no drivers"


class ProvidedCommand(NamedTuple):
    """A plugin's command.

    Attributes:
        plugin: the plugin that provides the command.
        application: the typer application, or a string that tells where to import it from.
    """

    plugin: PluginInfo
    application: Any
