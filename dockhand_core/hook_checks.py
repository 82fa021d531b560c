"""Checks of a plugin's hook functions, and of the drivers and commands that they return.

The name, the decorator and the arguments of a function are checked, because pluggy ignores a
function without `hookimpl`, and passes nothing to an argument that has a default, so many mistakes
would go unnoticed until an event does not arrive.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import pluggy

from dockhand_core import hookspecs
from dockhand_core.errors import PluginError
from dockhand_core.text import did_you_mean, shown

__all__ = ["EVENT_HOOKS", "check_application", "check_commands", "check_drivers", "check_hooks"]

_PREFIX = "dockhand_"
_MARKER = "dockhand_impl"
_HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(hook).parameters)
    for name, hook in vars(hookspecs).items()
    if name.startswith(_PREFIX)
}
EVENT_HOOKS = frozenset(name for name, arguments in _HOOKS.items() if arguments == ("event",))
# These are called at start, outside any event loop.
_AT_START = frozenset(
    {
        "dockhand_auth_drivers",
        "dockhand_commands",
        "dockhand_event_parsers",
        "dockhand_log_drivers",
        "dockhand_registry_drivers",
    }
)
_COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OBJECT = re.compile(
    r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*"
)  # package.module:attribute
_PLAIN = _AT_START | {"dockhand_configure"}  # called where nothing can be awaited
_MAY_YIELD = _AT_START | {"dockhand_authorize"}  # an iterable is a valid result of these


def check_hooks(plugin: Any, manager: pluggy.PluginManager) -> dict[str, Callable[[], Any]]:
    """Check all hook functions of a plugin.

    Args:
        plugin: the plugin, an object or a module.
        manager: the plugin manager that finds decorated functions.

    Returns:
        the plugin's functions by hook.

    Raises:
        PluginError: the plugin has no hook function, or one of them is wrong; the message names
            the function and, if there is one, the most similar valid name.
    """
    found: dict[str, Callable[[], Any]] = {}
    decorated = False
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name.startswith(_PREFIX):
                _check_undecorated(plugin, name)
            continue
        decorated = True
        hook = options.get("specname") or name
        if hook not in _HOOKS:
            if options.get("optionalhook"):
                continue
            raise PluginError(f"{name}: unknown hook {hook!r}{did_you_mean(hook, _HOOKS)}")
        function = getattr(plugin, name)
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"{name} is a hook wrapper, which Dockhand does not call")
        _check_kind(hook, name, function)
        _check_self(plugin, hook, name)
        _check_arguments(hook, name, function)
        found[hook] = function
    if not decorated:
        from dockhand_core.flow.checks import described  # here: only mistakes need it

        raise PluginError(
            f"the plugin, {described(plugin)}, has no function that is decorated with "
            "dockhand_core.hookimpl"
        )
    return found


def _check_undecorated(plugin: Any, name: str) -> None:
    """Refuse a function that looks like a hook, but would never be called."""
    function = getattr(plugin, name, None)
    if not inspect.isroutine(function) or hasattr(function, "dockhand_spec"):
        return
    import difflib  # imported here to save time, because only mistakes need it

    similar = difflib.get_close_matches(
        name.removeprefix(_PREFIX), [hook.removeprefix(_PREFIX) for hook in _HOOKS], n=1, cutoff=0.7
    )
    if not similar:
        return  # a function of the plugin's own
    right = _PREFIX + similar[0]
    hint = "" if right == name else f"; did you mean {right!r}?"
    others = [
        attribute.removesuffix("_impl")
        for attribute, value in vars(inspect.unwrap(function)).items()
        if attribute.endswith("_impl") and isinstance(value, dict)
    ]
    if others:
        raise PluginError(
            f"{name} is decorated with the hookimpl of {others[0]!r}; use "
            f"`from dockhand_core import hookimpl`{hint}"
        )
    raise PluginError(f"{name} is not decorated with @hookimpl, so it would never be called{hint}")


def _check_kind(hook: str, name: str, function: Callable[..., Any]) -> None:
    plain = inspect.unwrap(function)
    if hook in _PLAIN and inspect.iscoroutinefunction(plain):
        raise PluginError(f"{name} is `async def`; it has to be a plain function")
    if inspect.isasyncgenfunction(plain) or (
        inspect.isgeneratorfunction(plain) and hook not in _MAY_YIELD
    ):
        raise PluginError(f"{name} has a `yield`, so that a call of it would do nothing")


def _check_self(plugin: Any, hook: str, name: str) -> None:
    """Refuse a method of a class that was registered itself, and one without `self`."""
    raw = inspect.getattr_static(plugin, name, None)
    if not isinstance(raw, FunctionType):
        return
    parameters = _parameters(raw)
    first = parameters[0] if parameters else None
    if isinstance(plugin, type):
        if first is not None and first.name not in _HOOKS[hook] and _is_required(first):
            raise PluginError(
                f"{name} is a method, but {plugin.__name__} was registered itself: register an "
                f"instance, {plugin.__name__}()"
            )
    elif name in getattr(plugin, "__dict__", ()):
        return  # a module's function, or one that was set on the instance
    elif first is None or first.name in _HOOKS[hook]:
        raise PluginError(f"{name} is a method without `self`; write {_signature(hook, name)}")


def _check_arguments(hook: str, name: str, function: Callable[..., Any]) -> None:
    """Refuse arguments that the hook does not have. Fewer arguments than it has are right."""
    parameters = _parameters(function)
    valid = _HOOKS[hook]
    for parameter in parameters:
        if parameter.name not in valid:
            if not _is_required(parameter):
                continue
            has = ", ".join(valid) or "none"
            raise PluginError(
                f"{name}: Argument(s) {{{parameter.name!r}}} are not known to the hook"
                f"{did_you_mean(parameter.name, valid)} (the hook's arguments: {has})"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise PluginError(f"{name}: {parameter.name!r} must not be positional-only")
    if valid and [parameter.kind for parameter in parameters] == [inspect.Parameter.VAR_POSITIONAL]:
        raise PluginError(
            f"{name} takes only *{parameters[0].name}; the hook's arguments are "
            f"passed by name: {', '.join(valid)}"
        )


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # such as a function that is written in C
        return []


def _signature(hook: str, name: str) -> str:
    return f"def {name}({', '.join(('self', *_HOOKS[hook]))})"


def check_drivers(hook: str, answer: Any) -> dict[str, Any]:
    """Check the names of the drivers that a hook returned, and return them as a dict."""
    drivers = _mapping(hook, "drivers", answer)
    for name in drivers:
        if not isinstance(name, str) or not name:
            from dockhand_core.flow.checks import described

            raise TypeError(
                f"{hook} must return a mapping of names to drivers; the name of a driver is a "
                f"string, not {described(name)}"
            )
    return drivers


def check_commands(answer: Any) -> dict[str, Any]:
    """Check the commands that `dockhand_commands` returned, and return them as a dict."""
    commands = _mapping("dockhand_commands", "commands", answer)
    for name, application in commands.items():
        if not isinstance(name, str) or not _COMMAND.fullmatch(name):
            raise ValueError(
                f"dockhand_commands: {shown(str(name))} is not the name of a command, which has "
                "letters, digits, '-' and '_', and begins with a letter or digit"
            )
        where = f"dockhand_commands: command {name!r}"
        if not isinstance(application, str):
            check_application(where, application)
        elif not _OBJECT.fullmatch(application):
            raise ValueError(
                f"{where}: {shown(application)} is not of the form 'package.module:attribute'"
            )
    return commands


def check_application(where: str, application: Any) -> Any:
    """Check that an object is a typer application, and return it.

    Args:
        where: start of error messages.
        application: the object.
    """
    # The core does not import typer. If it is not loaded, there is no object of its class.
    kind = getattr(sys.modules.get("typer"), "Typer", None)
    if kind is None or not isinstance(application, kind):
        from dockhand_core.flow.checks import described

        raise PluginError(f"{where} is not a typer application, but {described(application)}")
    return application


def _mapping(hook: str, kind: str, answer: Any) -> dict[Any, Any]:
    if not isinstance(answer, Mapping):
        from dockhand_core.flow.checks import described

        raise TypeError(f"{hook} must return a mapping of names to {kind}, not {described(answer)}")
    return dict(answer)
