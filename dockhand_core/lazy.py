"""Lazy exports: a package's submodules are imported when one of its public names is first used.

Every start imports each plugin's `hooks` module, and with it the plugin's package. That import
must stay cheap.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package.

    Args:
        package: the package's `__name__`.
        modules: public name to the submodule that defines it, relative to the package.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
