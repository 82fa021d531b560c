"""Lazy exports: a package imports its submodules only when their public names are first used.

Dockhand imports each plugin's module `hooks` at every start, and Python imports the package of the
module, too. Lazy exports keep that import fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package.

    Args:
        package: the package's `__name__`.
        modules: mapping of each public name to the submodule that defines the name, relative to
            the package.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
