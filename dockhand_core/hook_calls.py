"""Calls of hook functions, and imports of the objects that they name."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pluggy

from dockhand_core.errors import PluginError
from dockhand_core.plugin_failures import reason_of

__all__ = ["imported", "with_declared_arguments"]


def with_declared_arguments(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    """Wrap an implementation of a hook in a function that passes only the declared arguments."""
    function = implementation.function
    declared = inspect.signature(function).parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in declared)
    wanted = {each.name for each in declared}

    @functools.wraps(function)  # so that `async` can be detected
    def call(**arguments: Any) -> Any:
        return function(**{n: value for n, value in arguments.items() if takes_all or n in wanted})

    return call


def imported(where: str, provided: Any) -> Any:
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
