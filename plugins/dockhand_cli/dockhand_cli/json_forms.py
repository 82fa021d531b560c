"""The documented forms of `--json`: the `TypedDict`s in the modules of commands.

The form of `dockhand blob head --json` is the class whose docstring names this command line. The
pages of the documentation show it, and tests check the command's output against it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, is_typeddict

__all__ = ["form_of", "forms_of"]


def form_of(command: str, package: str = "dockhand_cli") -> Any:
    """Find the form of a command's document, or of its lines; None if the command has no JSON.

    Args:
        command: the command's words, such as `blob head`.
        package: the package that has the command.
    """
    return next(_described(rf"`dockhand {command} --json`", package), None)


def forms_of(command: str, package: str = "dockhand_cli") -> list[Any]:
    """Find all forms of a command: that of `dockhand cp --json`, and of `cp --all-tags --json`.

    Args:
        command: the command's words, such as `blob head`.
        package: the package that has the command.
    """
    usual = form_of(command, package)
    found = _described(rf"`dockhand {command}( --[a-z-]+)* --json`", package)
    return sorted(found, key=lambda form: form is not usual)


def _described(pattern: str, package: str) -> Iterator[Any]:
    """Find the forms whose docstrings contain a command line that matches a pattern."""
    for module in _modules(package):
        for each in vars(module).values():
            is_own = is_typeddict(each) and each.__module__ == module.__name__
            if is_own and re.search(pattern, " ".join((each.__doc__ or "").split())):
                yield each


def _modules(name: str) -> Iterator[Any]:
    package = importlib.import_module(name)
    for info in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not info.name.endswith(".__main__"):
            yield importlib.import_module(info.name)
