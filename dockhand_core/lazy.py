"""Packages whose modules are imported when a name of theirs is used.

A plugin's `hooks` is imported at every start, and its package with it: that should cost nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """What a package has as its `__getattr__`.

    Args:
        package: its `__name__`.
        homes: the module below it that has each of its names.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return load
