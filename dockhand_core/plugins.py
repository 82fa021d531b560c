"""Discovery of plugins, and the drivers and commands that they provide.

If a plugin cannot be loaded, its entry point, its package and the reason are recorded, and the
other plugins work. If two packages provide a driver or command of the same name, the error that
names both is raised when it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from dockhand_core import hookspecs
from dockhand_core.core_plugin import CorePlugin
from dockhand_core.errors import DockhandError, PluginConflict, PluginError, PluginNotFound
from dockhand_core.hook_calls import imported, with_declared_arguments
from dockhand_core.hook_checks import (
    EVENT_HOOKS,
    check_application,
    check_commands,
    check_drivers,
    check_hooks,
)
from dockhand_core.hookspecs import GROUP
from dockhand_core.plugin_discovery import Entry, Found, core_version, installed, normal
from dockhand_core.plugin_failures import reason_of, warn
from dockhand_core.plugin_info import DRIVER_HOOKS, PluginInfo, ProvidedCommand
from dockhand_core.plugin_settings import SettingsTables
from dockhand_core.text import did_you_mean

__all__ = ["PluginInfo", "Plugins", "ProvidedCommand", "core_version"]

# Drivers that `pip install "dockhand-core[<name>]"` installs; the extra has the driver's name.
_EXTRAS = {
    "registry": frozenset({"distribution", "embedded", "zot"}),
    "auth": frozenset({"apikey", "basic", "bearer", "jwt", "token"}),
}


_installed = installed
_FALSE = {"", "0", "false", "no", "off"}


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
        self._names: dict[str, str] = {}  # of plugins, by the key that pluggy has
        self._founds: dict[str, Found] = {}
        self._tables: SettingsTables | None = None
        self._drivers: dict[str, dict[str, list[tuple[Found, Any]]]] = {k: {} for k in DRIVER_HOOKS}
        self._commands: dict[str, list[tuple[Found, Any]]] = {}
        self._lost: dict[tuple[str, str], PluginInfo] = {}  # what plugins in `_drop` provided
        self._add(CorePlugin(), Found("core", "dockhand-core", core_version()))
        self._left_out = set(self._disabled)  # with the names of plugins of disabled packages
        for entry in _installed():
            if self._disabled.isdisjoint({normal(entry.name), normal(entry.package)}):
                self._report(entry, self._add(entry.found.plugin, entry.found))
            else:
                self._left_out.add(normal(entry.name))

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Register a plugin on this manager only, and configure it if it takes settings.

        Args:
            plugin: an object or a module, with functions that are decorated with `hookimpl`.
            name: name of the plugin; by default the module's name, or the module and qualified name
                of the object's class.

        Raises:
            PluginConflict: a plugin of this name, or the same object, is registered already.
            PluginError: a function implements no known hook, has wrong arguments, or fails when it
                is called to collect drivers or to configure the plugin.
            ConfigError: the plugin's settings are wrong, or it takes none.
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
        if self._tables is not None:
            try:
                self._check_tables(self._tables, complete=False)
                self._configure(key, self._tables)
            except DockhandError as error:
                self._drop(key, str(error))
                raise

    def configure(
        self, settings: Mapping[str, Mapping[str, Any]], dockhand: Any, base: Path | None = None
    ) -> None:
        """Call `dockhand_configure` of all plugins; a manager does so once, when it is made.

        Plugins that are registered later are configured at their registration. Settings of a name
        that no plugin has are kept for them, unless the name looks misspelt; see `check`.

        If the hook of a plugin fails, and the configuration has settings for the plugin, the error
        is raised: whoever wrote the settings wants this plugin, and would not notice that a program
        runs without it. Without settings, the failure is that of an installed package that nobody
        may need here. As a plugin that cannot be imported, it is left out with a warning and is one
        of the `failures`, so that a broken plugin breaks only itself.

        Args:
            settings: the tables of settings by the name of the plugin.
            dockhand: the manager.
            base: folder that relative paths start at; by default the working folder.

        Raises:
            ConfigError: settings are wrong, or are those of a plugin that takes none.
            PluginError: the hook of a plugin with settings failed in another way; or the plugins
                have been configured already.
        """
        if self._tables is not None:
            raise PluginError("the plugins have been configured already")
        self._tables = tables = SettingsTables(settings, base or Path.cwd(), dockhand)
        self._check_tables(tables, complete=False)
        for key in list(self._founds):
            try:
                self._configure(key, tables)
            except DockhandError as error:
                found = self._founds[key]
                if found.entry is None or found.name in tables:
                    raise
                reason = str(error).removeprefix(f"plugin {found.name!r}: ")
                self._drop(key, f"{reason}; there is no table [plugins.{found.name}]")

    def check(self) -> None:
        """Refuse settings without a plugin, and broken plugins in the strict mode.

        Servers call it when they start, since they ignore plugins that are registered later. The
        mode is strict if the environment variable `DOCKHAND_STRICT_PLUGINS` is set, and not `0`,
        `false`, `no` or `off`.

        Raises:
            ConfigError: the configuration has settings for a plugin that is neither installed nor
                registered, and not disabled.
            PluginError: the mode is strict, and a plugin cannot be loaded or configured.
        """
        if self._tables is not None:
            self._check_tables(self._tables, complete=True)
        self.check_strict()

    def check_strict(self) -> None:
        """Refuse broken plugins, as `require_all`, if `DOCKHAND_STRICT_PLUGINS` is set.

        Raises:
            PluginError: the variable is set, and a plugin cannot be loaded or configured.
        """
        if os.environ.get("DOCKHAND_STRICT_PLUGINS", "").strip().lower() not in _FALSE:
            self.require_all("DOCKHAND_STRICT_PLUGINS")

    def require_all(self, demanded_by: str) -> None:
        """Import every driver, and refuse plugins that cannot be loaded or configured.

        Args:
            demanded_by: the option or variable that demands it, for the message.

        Raises:
            PluginError: a plugin cannot be loaded or configured.
        """
        self.import_drivers()
        if self.failures:
            raise PluginError(
                f"{demanded_by}: not started, because of {'; '.join(map(str, self.failures))}. "
                "Repair or uninstall the package, or name it in DOCKHAND_DISABLE_PLUGINS"
            )

    def _check_tables(self, tables: SettingsTables, *, complete: bool) -> None:
        with_hook = {
            self._names[each.plugin_name]
            for each in self._manager.hook.dockhand_configure.get_hookimpls()
        }
        others = {info.name for info in self._infos if not info.error} - with_hook
        ignored = self._left_out | {normal(info.name) for info in self.failures}
        tables.check(with_hook, others, ignored, complete=complete)

    def _configure(self, key: str, tables: SettingsTables) -> None:
        """Call the hook `dockhand_configure` of one plugin, if the plugin has it."""
        for each in self._manager.hook.dockhand_configure.get_hookimpls():
            if each.plugin_name == key:
                name = self._names[key]
                takers = sorted(
                    info.package
                    for info in self._infos
                    if normal(info.name) == normal(name) and "dockhand_configure" in info.hooks
                )
                if len(takers) > 1 and name in tables:
                    raise PluginConflict(
                        f"plugins.{name}: {' and '.join(takers)} have plugins of this name, "
                        "which take settings; uninstall all but one, or name their packages in "
                        "DOCKHAND_DISABLE_PLUGINS"
                    )
                tables.configure(name, with_declared_arguments(each))

    def conflict_of(self, info: PluginInfo) -> str | None:
        """Describe the conflict of a plugin with another one of the same name; None without one.

        Plugins of one name may provide drivers and commands. But their settings would stand in the
        same table, and their event handlers would have the same names.

        Args:
            info: the plugin.
        """
        for other in self._infos:
            shared = {"dockhand_configure", *EVENT_HOOKS}.intersection(info.hooks, other.hooks)
            same = normal(other.name) == normal(info.name) and other.package != info.package
            if same and shared:
                return (
                    f"{other.package} has a plugin named {other.name!r}, too, and both implement "
                    f"{', '.join(sorted(shared))}; uninstall one of them, or name its package in "
                    "DOCKHAND_DISABLE_PLUGINS"
                )
        return None

    def _drop(self, key: str, error: str) -> None:
        """Remove a plugin that could not be configured, with its drivers and commands."""
        found = self._founds[key]
        with self._lock:
            self._manager.unregister(name=key)
            failed = PluginInfo(found.name, found.package, found.version, {}, error)
            kinds = {f"{kind} driver": each for kind, each in self._drivers.items()}
            for kind, provided in {**kinds, "command": self._commands}.items():
                for name, providers in list(provided.items()):
                    kept = [each for each in providers if each[0] is not found]
                    if len(kept) < len(providers) and found.entry is not None:
                        self._lost[kind, name] = failed
                    providers[:] = kept
                    if not providers:
                        del provided[name]
            for position, info in enumerate(self._infos):
                if (info.name, info.package, info.error) == (found.name, found.package, None):
                    self._infos[position] = failed
                    self._report(found.entry, failed)

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
        self._names[key], self._founds[key] = found.name, found
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
            make_parsers=functions.get("dockhand_event_parsers"),
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
            the hook's arguments as keyword arguments. The function's exceptions have no secrets of
            the plugin's settings.
        """
        found = getattr(self._manager.hook, hook).get_hookimpls()  # in the order of registration
        names = [self._names[each.plugin_name] for each in found]
        functions = [with_declared_arguments(each) for each in found]
        if self._tables is not None:
            functions = [*map(self._tables.hiding, names, functions)]
        return [*zip(names, functions, strict=True)]

    def clean(self, plugin: str, error: BaseException) -> None:
        """Remove the secrets of a plugin's settings from an exception that it raised.

        The functions of `implementations` need no call.
        """
        if self._tables is not None:
            self._tables.clean(plugin, error)

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
            PluginError: the driver cannot be imported, or has a wrong type; or its plugin could not
                be configured.
        """
        found, driver = self._provider(f"{kind} driver", name, self._drivers[kind])
        from dockhand_core.driver_checks import check_driver  # here: it needs pydantic and httpx

        where = f"{kind} driver {name!r} of {found.package}"
        try:
            return check_driver(kind, where, imported(where, driver))
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
            return check_application(where, imported(where, application))
        except PluginError as error:
            self._record_failure(found, str(error))
            raise

    def _provider(
        self, kind: str, name: str, provided: Mapping[str, list[tuple[Found, Any]]]
    ) -> tuple[Found, Any]:
        """The only plugin that provides a driver or command, and the object that it provides."""
        providers = provided.get(name, [])
        lost = self._lost.get((kind, name))
        if not providers and lost is not None:
            raise PluginError(
                f"{kind} {name!r} of {lost.package} could not be loaded: {lost.error}"
            )
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
        there = f"installed: {', '.join(names) or 'none'}{did_you_mean(name, names)}"
        same = next((each for each in self.failures if normal(each.name) == normal(name)), None)
        if same is not None:  # most plugins have the name of their driver
            return f"{kind} {name!r} is not available: the plugin {same}; {there}"
        text = f"{kind} {name!r} is not installed; {there}"
        if name in _EXTRAS.get(kind.partition(" ")[0], ()):
            text += f'; pip install "dockhand-core[{name}]" brings it'
        if self.failures:
            text += f"; not loaded: {'; '.join(map(str, self.failures))}"
        if self._disabled:
            text += f"; disabled: {', '.join(sorted(self._disabled))}"
        return text

    def __repr__(self) -> str:
        return f"<Plugins {', '.join(info.name for info in self._infos)}>"
