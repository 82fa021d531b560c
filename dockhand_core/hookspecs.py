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

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import SecretStr

from dockhand_core.auth import AuthDriver
from dockhand_core.driver import RegistryDriver
from dockhand_core.identity import Identity
from dockhand_core.logs import LogSettings
from dockhand_core.scope import Scope

if TYPE_CHECKING:
    from dockhand_core import events
    from dockhand_core.events import EventParser

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


@hookspec
def dockhand_event_parsers() -> Sequence[EventParser]:  # type: ignore[empty-body]
    """Formats of notifications beside Distribution's and zot's: objects with two methods.

    `matches(headers)` says whether a notification is theirs; names of headers are found in any
    case. `parse(headers, body)` gives its events, or raises `EventInvalid`: then the notification
    is kept as a dead letter, for `replay` once the parser can read it. Both are quick and wait for
    nothing. Parsers of plugins are asked before the core's own, the last registered first.
    """


@hookspec
def dockhand_event(event: events.RegistryBaseEvent) -> Awaitable[None] | None:
    """Called with every event, of whatever class: `event` is a `RegistryBaseEvent`.

    This and the hooks below are handlers of events. One is known by `<name>/<hook>`, with the name
    that the plugin was registered by or its entry point's. It may be `async`; a plain function runs
    in a thread. It is called for each event at least once, and so has to bear a repetition: the
    same `event.id`. Events of one repository come one by one in order of arrival. What it raises is
    logged, and it is called again, later, until it succeeds or the event is put among the dead
    letters; no other handler waits for it.
    """
    return None


@hookspec
def dockhand_manifest_pushed(event: events.ManifestPushed) -> Awaitable[None] | None:
    """Called when a manifest or index was pushed.

    `event` is a `ManifestPushed`; see `dockhand_event`.
    `event.tag` is None where it was pushed by digest.
    """
    return None


@hookspec
def dockhand_manifest_pulled(event: events.ManifestPulled) -> Awaitable[None] | None:
    """Called when a manifest or index was read.

    `event` is a `ManifestPulled`; see `dockhand_event`.
    `event.request_method` tells GET from HEAD.
    """
    return None


@hookspec
def dockhand_blob_pushed(event: events.BlobPushed) -> Awaitable[None] | None:
    """Called when a blob was pushed.

    `event` is a `BlobPushed`; see `dockhand_event`.
    It may have been there before.
    """
    return None


@hookspec
def dockhand_blob_pulled(event: events.BlobPulled) -> Awaitable[None] | None:
    """Called when a blob was read.

    `event` is a `BlobPulled`; see `dockhand_event`.
    `event.request_method` tells GET from HEAD, and a part counts as the whole.
    """
    return None


@hookspec
def dockhand_blob_mounted(event: events.BlobMounted) -> Awaitable[None] | None:
    """Called when a blob was taken over from another repository.

    `event` is a `BlobMounted`; see `dockhand_event`.
    `event.from_repository` is where it came from.
    """
    return None


@hookspec
def dockhand_manifest_deleted(event: events.ManifestDeleted) -> Awaitable[None] | None:
    """Called when a manifest or index was deleted by digest.

    `event` is a `ManifestDeleted`; see `dockhand_event`.
    Distribution's deletions of blobs come as these, too: see the class.
    """
    return None


@hookspec
def dockhand_blob_deleted(event: events.BlobDeleted) -> Awaitable[None] | None:
    """Called when a blob was deleted.

    `event` is a `BlobDeleted`; see `dockhand_event`.
    Distribution's deletions do not say so: see `ManifestDeleted`.
    """
    return None


@hookspec
def dockhand_tag_deleted(event: events.TagDeleted) -> Awaitable[None] | None:
    """Called when a tag was deleted.

    `event` is a `TagDeleted`; see `dockhand_event`.
    One call for each tag of a manifest that was deleted by digest.
    """
    return None


@hookspec
def dockhand_repository_deleted(event: events.RepositoryDeleted) -> Awaitable[None] | None:
    """Called when a repository was deleted.

    `event` is a `RepositoryDeleted`; see `dockhand_event`.
    Nothing but its name is left.
    """
    return None


@hookspec
def dockhand_repository_created(event: events.RepositoryCreated) -> Awaitable[None] | None:
    """Called when zot created a repository.

    `event` is a `RepositoryCreated`; see `dockhand_event`.
    It may be empty: a first upload, a mount or a HEAD is enough.
    """
    return None


@hookspec
def dockhand_image_lint_failed(event: events.ImageLintFailed) -> Awaitable[None] | None:
    """Called when zot refused a manifest for a missing annotation.

    `event` is an `ImageLintFailed`; see `dockhand_event`.
    It was not stored.
    """
    return None


@hookspec
def dockhand_image_scanned(event: events.ImageScanned) -> Awaitable[None] | None:
    """Called when zot looked for vulnerabilities in an image.

    `event` is an `ImageScanned`; see `dockhand_event`.
    `event.summary` is what it found.
    """
    return None
