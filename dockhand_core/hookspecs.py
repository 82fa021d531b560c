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

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pluggy
from pydantic import SecretStr

from dockhand_core.auth import AuthDriver
from dockhand_core.driver import RegistryDriver
from dockhand_core.identity import Identity
from dockhand_core.logs import LogSettings
from dockhand_core.scope import Scope

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


@hookspec
def dockhand_authenticate(
    username: str, password: SecretStr, service: str
) -> Identity | Awaitable[Identity | None] | None:
    """Who a user name and a password prove to be asking; the token endpoint asks.

    Users that the endpoint's own file lists are never asked about. Of several plugins the first
    that knows the user decides. May be `async`; a plain function runs in a thread. One that raises,
    or takes longer than ten seconds, has refused.

    Args:
        username: as the client sent it; not empty, without control characters.
        password: as the client sent it.
        service: the registry that the token is for.

    Returns:
        who it is, under the name that the rules are to know; None where this plugin does not know
        the user, or the password is wrong.
    """
    return None


@hookspec
def dockhand_authorize(
    identity: Identity, scopes: tuple[Scope, ...], service: str
) -> Iterable[Scope] | Awaitable[Iterable[Scope] | None] | None:
    """What somebody may do; the token endpoint asks before it signs.

    It can only narrow what the endpoint's rules grant: what is returned beyond `scopes` is cut.
    Where the endpoint's configuration makes this plugin the backend, there are no rules, and
    `scopes` is all that was asked for. Every plugin is asked, one after the other, each about what
    those before it left. May be `async`; a plain function runs in a thread. One that raises, or
    takes longer than ten seconds, denies everything.

    Args:
        identity: who asks; `identity.anonymous` where nobody logged in.
        scopes: what may be granted at most, each resource once, each with at least one action.
        service: the registry that the token is for.

    Returns:
        what of `scopes` is granted (`scope & Scope.read(scope.name)` narrows one to reading); or
        None where this plugin has no say: what the rules grant stays, and a backend grants nothing.
    """
    return None
