"""Discovery of plugins, and the drivers that they provide.

If a plugin cannot be loaded, its entry point, its package and the reason are recorded, and the
other plugins work. If two packages provide a driver of the same name, the error that names both is
raised when a connection uses this driver.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy

from dockhand_core import hookspecs, logs
from dockhand_core.auth import NullAuth
from dockhand_core.config.validation import did_you_mean
from dockhand_core.driver_checks import check_driver
from dockhand_core.errors import PluginConflict, PluginError, PluginNotFound
from dockhand_core.flow.checks import described
from dockhand_core.hook_checks import check_hooks
from dockhand_core.hookspecs import GROUP, hookimpl
from dockhand_core.plugin_failures import reason_of, warn

__all__ = ["PluginInfo", "Plugins", "core_version"]

# Drivers that `pip install "dockhand-core[<name>]"` installs; the extra has the driver's name.
_EXTRAS = {
    "registry": frozenset({"distribution", "embedded", "zot"}),
    "auth": frozenset({"apikey", "basic", "bearer", "jwt", "token"}),
}
_HOOKS = {
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
    """

    name: str
    package: str
    version: str | None = None
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None

    def __str__(self) -> str:
        what = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in self.provides.items())
        version = f" {self.version}" if self.version else ""
        state = f"cannot be loaded: {self.error}" if self.error else what or "provides no drivers"
        return f"{self.name} ({self.package}{version}): {state}"


class CorePlugin:
    """The core's own plugin, with the drivers that need no other package."""

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        """Provide the driver `null`."""
        return {"null": NullAuth}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        """Provide the drivers `console`, `json`, `null` and `stdlib`."""
        return dict(logs.BUILTIN)

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        """Provide the parsers of Distribution's envelopes and of zot's CloudEvents."""
        from dockhand_core.events.cloudevents import ZotParser
        from dockhand_core.events.distribution import DistributionParser

        return [DistributionParser(), ZotParser()]


class _Entry:
    """An entry point of the group; its plugin is imported on first use, once per process.

    Attributes:
        name: the entry point's name.
        package: the distribution package, or the module if the package is unknown.
        version: the package's version, if it is known.
        reported: the failures that were logged.
    """

    def __init__(self, entry: metadata.EntryPoint) -> None:
        self._entry = entry
        self.name, self.package = entry.name, entry.value.partition(":")[0]
        self.version: str | None = None
        self.reported: set[str] = set()
        with contextlib.suppress(Exception):  # metadata that is damaged: only the name is lost
            if entry.dist is not None:
                name, self.version = _name_and_version(entry.dist)
                self.package = name or self.package

    @functools.cached_property
    def found(self) -> _Found:
        plugin, error = None, None
        try:
            plugin = self._entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # an import may raise any exception, even SystemExit
            error = reason_of(raised)
        return _Found(self.name, self.package, self.version, plugin, error, self)


@dataclass(frozen=True, slots=True)
class _Found:
    """A plugin with its name and package, or the reason why its entry point was not loaded."""

    name: str
    package: str
    version: str | None
    plugin: Any = None
    error: str | None = None
    entry: _Entry | None = None


@functools.cache
def _installed() -> tuple[_Entry, ...]:
    """Find all entry points of the group; done once per process.

    This is `metadata.entry_points(group=GROUP)`, but parses only the files that name the group.
    """
    found: dict[str, metadata.EntryPoints] = {}
    for package in metadata.distributions():
        if GROUP in (package.read_text("entry_points.txt") or ""):
            name, _ = _name_and_version(package)
            # of packages with the same name, Python imports the first one
            found.setdefault(_normal(name or ""), package.entry_points.select(group=GROUP))
    return tuple(_Entry(entry) for entries in found.values() for entry in entries)


def _name_and_version(package: metadata.Distribution) -> tuple[str | None, str | None]:
    """The name and the version of a distribution package, if they are known.

    `package.metadata` would parse the whole file, with the description, as an email.
    """
    head, _, _ = (package.read_text("METADATA") or package.read_text("PKG-INFO") or "").partition(
        "\n\n"
    )
    fields = dict(reversed(re.findall(r"^(Name|Version):[ \t]*(\S+)[ \t\r]*$", head, re.MULTILINE)))
    return fields.get("Name"), fields.get("Version")


@functools.cache
def core_version() -> str:
    """The version of the core, as it is installed."""
    _, version = _name_and_version(metadata.distribution("dockhand-core"))
    return version or "0"


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


def _imported(where: str, driver: Any) -> Any:
    """Import a driver, if it is given as `"package.module:Class"`."""
    if not isinstance(driver, str):
        return driver
    module, _, attribute = driver.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"{where} cannot be imported from {driver!r}: {reason_of(error)}"
        ) from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


class Plugins:
    """The plugins of one manager: the installed ones, and those registered on this manager.

    Args:
        disabled: names of entry points or packages to leave out, in addition to those in the
            environment variable `DOCKHAND_DISABLE_PLUGINS`.
    """

    def __init__(self, disabled: tuple[str, ...] = ()) -> None:
        off = [*disabled, *os.environ.get("DOCKHAND_DISABLE_PLUGINS", "").split(",")]
        self._disabled = {_normal(name) for name in off if name.strip()}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.RLock()
        self._infos: list[PluginInfo] = []
        self._names: dict[str, str] = {}
        self._drivers: dict[str, dict[str, list[tuple[_Found, Any]]]] = {k: {} for k in _HOOKS}
        self._add(CorePlugin(), _Found("core", "dockhand-core", core_version()))
        for entry in _installed():
            if self._disabled.isdisjoint({_normal(entry.name), _normal(entry.package)}):
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
            info = self._add(plugin, _Found(key, module, None), key=key)
        if info.error:
            raise PluginError(f"plugin {key!r}: {info.error}")

    def _add(self, plugin: Any, found: _Found, key: str | None = None) -> PluginInfo:
        """Register a plugin with pluggy, and collect its drivers.

        An exception is not raised, but recorded as the `error` of the returned `PluginInfo`.
        """
        # pluggy refuses a second plugin of the same name. Two packages may have entry points of the
        # same name, so the name that pluggy gets contains the package.
        key = key or f"{found.package}:{found.name}"
        error, provides = found.error, {}
        if error is None:
            try:
                functions = check_hooks(plugin, self._manager)
                self._manager.register(plugin, key)
                provides = self._collect_drivers(functions, found)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                error = str(raised) if isinstance(raised, PluginError) else reason_of(raised)
                if self._manager.has_plugin(key):
                    self._manager.unregister(name=key)
        self._names[key] = found.name
        info = PluginInfo(found.name, found.package, found.version, provides, error)
        self._infos.append(info)
        return info

    def _collect_drivers(
        self, functions: Mapping[str, Callable[[], Any]], found: _Found
    ) -> dict[str, tuple[str, ...]]:
        answers: dict[str, dict[str, Any]] = {}
        for kind, hook in _HOOKS.items():
            if hook not in functions:
                continue
            answer = functions[hook]()
            if not isinstance(answer, Mapping):
                raise TypeError(
                    f"{hook} must return a mapping of names to drivers, not {described(answer)}"
                )
            wrong = next((name for name in answer if not isinstance(name, str) or not name), None)
            if wrong is not None or None in answer:
                raise TypeError(
                    f"{hook} must return a mapping of names to drivers; the name of a driver is a "
                    f"string, not {described(wrong)}"
                )
            answers[kind] = dict(answer)
        # In a second loop, so that no driver is added if any hook returned something invalid.
        for kind, drivers in answers.items():
            for name, driver in drivers.items():
                self._drivers[kind].setdefault(name, []).append((found, driver))
        return {kind: tuple(sorted(drivers)) for kind, drivers in answers.items() if drivers}

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

    def _report(self, entry: _Entry | None, info: PluginInfo) -> None:
        """Log the failure of an installed plugin, once per process."""
        if info.error and entry is not None and info.error not in entry.reported:
            entry.reported.add(info.error)
            warn(str(info))

    def _record_failure(self, found: _Found, error: str) -> None:
        """Add the failure of a driver to the plugin's `PluginInfo`."""
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
        providers = self._drivers[kind].get(name, [])
        if not providers:
            raise PluginNotFound(self._not_found_message(kind, name))
        if len(providers) > 1:
            packages = " and ".join(sorted(found.package for found, _ in providers))
            raise PluginConflict(
                f"{kind} driver {name!r} is provided by {packages}; uninstall one of them, or "
                "name it in DOCKHAND_DISABLE_PLUGINS"
            )
        found, driver = providers[0]
        where = f"{kind} driver {name!r} of {found.package}"
        try:
            return check_driver(kind, where, _imported(where, driver))
        except PluginError as error:
            self._record_failure(found, str(error))
            raise

    def _not_found_message(self, kind: str, name: str) -> str:
        text = f"{kind} driver {name!r} is not installed; installed: "
        text += ", ".join(self.names(kind)) or "none"
        text += did_you_mean(name, self.names(kind))
        if name in _EXTRAS.get(kind, ()):
            text += f'; pip install "dockhand-core[{name}]" brings it'
        if self.failures:
            text += f"; not loaded: {'; '.join(map(str, self.failures))}"
        if self._disabled:
            text += f"; disabled: {', '.join(sorted(self._disabled))}"
        return text

    def __repr__(self) -> str:
        return f"<Plugins {', '.join(info.name for info in self._infos)}>"
