"""Lazy exports and lazy modules, which are imported when one of their names is first used.

Lazy exports are a package's public names that its submodules define: Dockhand imports each plugin's
module `hooks` at every start, and Python imports the package of the module, too.

`asyncio` and `futures` are lazy modules of the standard library, for modules that serve sync and
async clients: a sync client that runs no flows in parallel needs neither.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

__all__ = ["asyncio", "futures", "lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package.

    It also imports submodules when they are first used: after `import dockhand_core`, the name
    `dockhand_core.errors` is valid without another import.

    Args:
        package: the package's `__name__`.
        modules: mapping of each public name to the submodule that defines the name, relative to
            the package.
    """

    def load(name: str) -> object:
        if name in modules:
            value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
            vars(sys.modules[package])[name] = value  # so that Python does not ask again
            return value
        if not name.startswith("_"):
            submodule = f"{package}.{name}"
            try:
                return importlib.import_module(submodule)
            except ModuleNotFoundError as error:
                if error.name != submodule:  # the submodule exists, but not one of its imports
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load


class _LazyModule:
    """A module that is imported when one of its attributes is first read.

    Args:
        name: the module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._name), name)
        vars(self)[name] = value
        return value


if TYPE_CHECKING:
    import asyncio
    from concurrent import futures
else:
    asyncio = _LazyModule("asyncio")
    futures = _LazyModule("concurrent.futures")
