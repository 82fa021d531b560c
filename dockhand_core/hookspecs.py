"""Every hook of the core. A plugin implements those it needs, with `hookimpl`.

A plugin is a package with an entry point in the group `dockhand`, whose value is a module or an
object with such functions. It is loaded when a manager is made, so it stays light: drivers are
named as `"package.module:Class"` and imported when a connection first uses them::

    # pyproject.toml
    [project.entry-points.dockhand]
    vault = "dockhand_vault.hooks"

    # dockhand_vault/hooks.py
    from dockhand_core import hookimpl

    @hookimpl
    def dockhand_auth_drivers():
        return {"vault": "dockhand_vault.driver:VaultAuth"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

from dockhand_core.auth import AuthDriver
from dockhand_core.driver import RegistryDriver
from dockhand_core.logs import LogSettings

__all__ = ["GROUP", "hookimpl"]

GROUP = "dockhand"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def dockhand_registry_drivers() -> Mapping[str, type[RegistryDriver] | str]:  # type: ignore[empty-body]
    """Drivers for flavours of registry: name to a `RegistryDriver` subclass.

    The name is what a connection's `driver` says. The class may be given as
    `"package.module:Class"`. A name that another package provides too is an error when a
    connection asks for it.
    """


@hookspec
def dockhand_auth_drivers() -> Mapping[str, type[AuthDriver] | str]:  # type: ignore[empty-body]
    """Drivers for ways to prove who one is: name to an `AuthDriver` subclass.

    The name is what a connection's `auth.driver` says; the rest of that table is checked against
    the class's `Settings`. The class may be given as `"package.module:Class"`.
    """


@hookspec
def dockhand_log_drivers() -> Mapping[str, Callable[[LogSettings, str], Any] | str]:  # type: ignore[empty-body]
    """Drivers for loggers: name to a callable `(settings, connection_name)`.

    It gives a structlog logger; `settings.options` holds the keys of the connection's `logging`
    table that are not the core's. The callable may be given as `"package.module:function"`.
    """
