"""Discovery of plugins, and the drivers and commands that they provide.

If a plugin cannot be loaded, its entry point, its package and the reason are recorded, and the
other plugins work. If two packages provide a driver or command of the same name, the error that
names both is raised when it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pluggy

from dockhand_core import hookspecs
from dockhand_core.errors import PluginConflict, PluginError, PluginNotFound
from dockhand_core.hook_checks import (
    EVENT_HOOKS,
    check_application,
    check_commands,
    check_drivers,
    check_hooks,
)
from dockhand_core.hookspecs import GROUP, hookimpl
from dockhand_core.plugin_discovery import Entry, Found, core_version, installed, normal
from dockhand_core.plugin_failures import reason_of, warn
from dockhand_core.plugin_info import DRIVER_HOOKS, PluginInfo, ProvidedCommand
from dockhand_core.text import did_you_mean

__all__ = ["PluginInfo", "Plugins", "ProvidedCommand", "core_version"]

# Drivers that `pip install "dockhand-core[<name>]"` installs; the extra has the driver's name.
_EXTRAS = {
    "registry": frozenset({"distribution", "embedded", "zot"}),
    "auth": frozenset({"apikey", "basic", "bearer", "jwt", "token"}),
}


_installed = installed


class CorePlugin:
    """The core's own plugin, with the drivers that need no other package."""

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        """Provide the driver `null`."""
        return {"null": "dockhand_core.auth:NullAuth"}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        """Provide the drivers `console`, `json`, `null` and `stdlib`."""
        names = ("console", "json", "null", "stdlib")
        return {name: f"dockhand_core.logs:{name}" for name in names}

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        """Provide the parsers of Distribution's envelopes and of zot's CloudEvents."""
        from dockhand_core.events.cloudevents import ZotParser
        from dockhand_core.events.distribution import DistributionParser

        return [DistributionParser(), ZotParser()]


def _with_declared_arguments(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    """Wrap an implementation of a hook in a function that passes only the declared arguments."""
    function = implementation.function
    declared = inspect.signature(function).parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in declared)
    wanted = {each.name for each in declared}

    @functools.wraps(function)  # so that `async` can be detected
    def call(**arguments: Any) -> Any:
        return function(**{n: value for n, value in arguments.items() if takes_all or n in wanted})

    return call


def _imported(where: str, provided: Any) -> Any:
    """Import a driver or an application, if it is given as `"package.module:attribute"`."""
    if not isinstance(provided, str):
        return provided
    module, _, attribute = provided.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"{where} cannot be imported from {provided!r}: {reason_of(error)}"
        ) from error


class Plugins:
    """The plugins of one manager: the installed ones, and those registered on this manager.

    Args:
        disabled: names of entry points or packages to leave out, in addition to those in the
            environment variable `DOCKHAND_DISABLE_PLUGINS`.
    """

    def __init__(self, disabled: tuple[str, ...] = ()) -> None:
        off = [*disabled, *os.environ.get("DOCKHAND_DISABLE_PLUGINS", "").split(",")]
        self._disabled = {normal(name) for name in off if name.strip()}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.RLock()
        self._infos: list[PluginInfo] = []
        self._names: dict[str, str] = {}
        self._drivers: dict[str, dict[str, list[tuple[Found, Any]]]] = {k: {} for k in DRIVER_HOOKS}
        self._commands: dict[str, list[tuple[Found, Any]]] = {}
        self._add(CorePlugin(), Found("core", "dockhand-core", core_version()))
        for entry in _installed():
            if self._disabled.isdisjoint({normal(entry.name), normal(entry.package)}):
                self._report(entry, self._add(entry.found.plugin, entry.found))

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Register a plugin on this manager only.

        Args:
            plugin: an object or a module, with functions that are decorated with `hookimpl`.
            name: name of the plugin; by default the module's name, or the module and qualified name
                of the object's class.

        Raises:
            PluginConflict: a plugin of this name, or the same object, is registered already.
            PluginError: a function implements no known hook, has wrong arguments, or fails when it
                is called to collect drivers.
        """
        if isinstance(plugin, ModuleType):
            default_name = module = plugin.__name__
        else:
            kind = plugin if isinstance(plugin, type) else type(plugin)
            default_name, module = f"{kind.__module__}:{kind.__qualname__}", kind.__module__
        key = name or default_name
        with self._lock:
            registered = self._manager.list_name_plugin()
            if any(key == other_key or plugin is other for other_key, other in registered):
                raise PluginConflict(f"a plugin named {key!r} is registered already")
            info = self._add(plugin, Found(key, module, None), key=key)
        if info.error:
            raise PluginError(f"plugin {key!r}: {info.error}")

    def _add(self, plugin: Any, found: Found, key: str | None = None) -> PluginInfo:
        """Register a plugin with pluggy, and collect its drivers.

        An exception is not raised, but recorded as the `error` of the returned `PluginInfo`.
        """
        # pluggy refuses a second plugin of the same name. Two packages may have entry points of the
        # same name, so the name that pluggy gets contains the package.
        key = key or f"{found.package}:{found.name}"
        info = PluginInfo(found.name, found.package, found.version, {}, found.error)
        if not info.error:
            try:
                functions = check_hooks(plugin, self._manager)
                self._manager.register(plugin, key)
                info = self._collect(functions, found, info)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                error = str(raised) if isinstance(raised, PluginError) else reason_of(raised)
                info = dataclasses.replace(info, error=error)
                if self._manager.has_plugin(key):
                    self._manager.unregister(name=key)
        self._names[key] = found.name
        self._infos.append(info)
        return info

    def _collect(
        self, functions: Mapping[str, Callable[[], Any]], found: Found, info: PluginInfo
    ) -> PluginInfo:
        """Collect the drivers and commands of a plugin, and complete its `PluginInfo`."""
        answers = {
            kind: check_drivers(hook, functions[hook]())
            for kind, hook in DRIVER_HOOKS.items()
            if hook in functions
        }
        commands: dict[str, Any] = {}
        if "dockhand_commands" in functions:
            commands = check_commands(functions["dockhand_commands"]())
        # Only now, so that nothing is added if any hook returned something invalid.
        for kind, drivers in answers.items():
            for name, driver in drivers.items():
                self._drivers[kind].setdefault(name, []).append((found, driver))
        for name, application in commands.items():
            self._commands.setdefault(name, []).append((found, application))
        return dataclasses.replace(
            info,
            provides={kind: tuple(sorted(names)) for kind, names in answers.items() if names},
            hooks=tuple(sorted(functions)),
            commands=tuple(sorted(commands)),
            handlers=tuple(f"{found.name}/{hook}" for hook in sorted(EVENT_HOOKS & set(functions))),
        )

    @property
    def failures(self) -> tuple[PluginInfo, ...]:
        """The plugins that could not be loaded, each with the reason as its `error`."""
        return tuple(info for info in self._infos if info.error)

    def import_drivers(self) -> None:
        """Import every driver, which otherwise happens on first use; `failures` has the errors."""
        for kind, drivers in self._drivers.items():
            for name in drivers:
                with contextlib.suppress(PluginError):
                    self.driver(kind, name)

    def import_commands(self) -> None:
        """Import every command, which otherwise happens on first use; `failures` has the errors."""
        for name in self._commands:
            with contextlib.suppress(PluginError):
                self.command(name)

    def _report(self, entry: Entry | None, info: PluginInfo) -> None:
        """Log the failure of an installed plugin, once per process."""
        if info.error and entry is not None and info.error not in entry.reported:
            entry.reported.add(info.error)
            warn(str(info))

    def _record_failure(self, found: Found, error: str) -> None:
        """Add the failure of a driver or command to the plugin's `PluginInfo`."""
        for position, info in enumerate(self._infos):
            if (info.name, info.package) == (found.name, found.package) and not info.error:
                self._infos[position] = dataclasses.replace(info, error=error)
                self._report(found.entry, self._infos[position])

    def __iter__(self) -> Iterator[PluginInfo]:
        """Iterate over all plugins, including those that could not be loaded."""
        return iter(tuple(self._infos))

    def __len__(self) -> int:
        return len(self._infos)

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Return the implementations of a hook, in the order of discovery and registration.

        Args:
            hook: name of the hook, such as `dockhand_authorize`.

        Returns:
            for each plugin that implements the hook, the plugin's name and a function that takes
            the hook's arguments as keyword arguments.
        """
        found = getattr(self._manager.hook, hook).get_hookimpls()  # in the order of registration
        return [(self._names[each.plugin_name], _with_declared_arguments(each)) for each in found]

    def names(self, kind: str) -> list[str]:
        """Return the names of all drivers of a kind (`registry`, `auth`, `log`), sorted."""
        return sorted(self._drivers[kind])

    def driver(self, kind: str, name: str) -> Any:
        """Return a driver by its name, and import it if necessary.

        Args:
            kind: `registry`, `auth` or `log`.
            name: name of the driver.

        Returns:
            the driver's class, or for a log driver a function.

        Raises:
            PluginNotFound: no plugin provides the driver; the message lists the installed drivers,
                the package to install, and the plugins that could not be loaded.
            PluginConflict: two packages provide the driver; the message names both.
            PluginError: the driver cannot be imported, or has a wrong type.
        """
        found, driver = self._provider(f"{kind} driver", name, self._drivers[kind])
        from dockhand_core.driver_checks import check_driver  # here: it needs pydantic and httpx

        where = f"{kind} driver {name!r} of {found.package}"
        try:
            return check_driver(kind, where, _imported(where, driver))
        except PluginError as error:
            self._record_failure(found, str(error))
            raise

    def commands(self) -> dict[str, tuple[ProvidedCommand, ...]]:
        """Return the commands of all plugins by name, sorted, without importing them.

        Several plugins may provide a command of the same name; `command` then raises an error.
        """
        infos = {(info.name, info.package): info for info in self._infos}
        return {
            name: tuple(ProvidedCommand(infos[f.name, f.package], each) for f, each in providers)
            for name, providers in sorted(self._commands.items())
        }

    def command(self, name: str) -> Any:
        """Return the typer application of a command, and import it if necessary.

        Raises:
            PluginNotFound: no plugin provides the command; the message lists the installed
                commands, and the plugins that could not be loaded.
            PluginConflict: two packages provide the command; the message names both.
            PluginError: the application cannot be imported, or is no typer application.
        """
        found, application = self._provider("command", name, self._commands)
        where = f"command {name!r} of {found.package}"
        try:
            return check_application(where, _imported(where, application))
        except PluginError as error:
            self._record_failure(found, str(error))
            raise

    def _provider(
        self, kind: str, name: str, provided: Mapping[str, list[tuple[Found, Any]]]
    ) -> tuple[Found, Any]:
        """The only plugin that provides a driver or command, and the object that it provides."""
        providers = provided.get(name, [])
        if not providers:
            raise PluginNotFound(self._not_found_message(kind, name, sorted(provided)))
        if len(providers) > 1:
            packages = " and ".join(sorted(found.package for found, _ in providers))
            raise PluginConflict(
                f"{kind} {name!r} is provided by {packages}; uninstall one of them, or "
                "name it in DOCKHAND_DISABLE_PLUGINS"
            )
        return providers[0]

    def _not_found_message(self, kind: str, name: str, names: list[str]) -> str:
        text = f"{kind} {name!r} is not installed; installed: {', '.join(names) or 'none'}"
        text += did_you_mean(name, names)
        if name in _EXTRAS.get(kind.partition(" ")[0], ()):
            text += f'; pip install "dockhand-core[{name}]" brings it'
        if self.failures:
            text += f"; not loaded: {'; '.join(map(str, self.failures))}"
        if self._disabled:
            text += f"; disabled: {', '.join(sorted(self._disabled))}"
        return text

    def __repr__(self) -> str:
        return f"<Plugins {', '.join(info.name for info in self._infos)}>"
