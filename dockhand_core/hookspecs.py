"""The hooks of the core. A plugin implements the ones that it needs, with `hookimpl`.

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

__all__ = [
    "GROUP",
    "dockhand_auth_drivers",
    "dockhand_authenticate",
    "dockhand_authorize",
    "dockhand_blob_deleted",
    "dockhand_blob_mounted",
    "dockhand_blob_pulled",
    "dockhand_blob_pushed",
    "dockhand_event",
    "dockhand_event_parsers",
    "dockhand_image_lint_failed",
    "dockhand_image_scanned",
    "dockhand_log_drivers",
    "dockhand_manifest_deleted",
    "dockhand_manifest_pulled",
    "dockhand_manifest_pushed",
    "dockhand_registry_drivers",
    "dockhand_repository_created",
    "dockhand_repository_deleted",
    "dockhand_tag_deleted",
    "hookimpl",
]

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
    """Drivers for authentication schemes: name to an `AuthDriver` subclass.

    The name is what a connection's `auth.driver` says; the rest of that table is checked against
    the class's `Settings`. The class may be given as `"package.module:Class"`.
    """


@hookspec
def dockhand_log_drivers() -> Mapping[str, Callable[[LogSettings, str], Any] | str]:  # type: ignore[empty-body]
    """Drivers for loggers: name to a callable `(settings, connection_name)`.

    The callable returns a structlog logger, which `dockhand_core.logs.make_logger` makes;
    `settings.options` holds the keys of the connection's `logging` table that are not the core's.
    A logger with a method `close` is closed with its connection. The callable may be given as
    `"package.module:function"`.
    """


@hookspec
def dockhand_authenticate(
    username: str, password: SecretStr, service: str
) -> Identity | Awaitable[Identity | None] | None:
    """The identity for a user name and a password; called by the token endpoint.

    It is not called for users in the endpoint's own file. Of several plugins the first that
    returns an identity decides. The function may be `async`; a plain one runs in a thread. One that
    raises, or takes longer than ten seconds, has refused the login.

    Args:
        username: as the client sent it; not empty, without control characters.
        password: as the client sent it.
        service: the registry that the token is for.

    Returns:
        the identity, with the name that the rules refer to; None where this plugin does not know
        the user, or the password is wrong.
    """
    return None


@hookspec
def dockhand_authorize(
    identity: Identity, scopes: tuple[Scope, ...], service: str
) -> Iterable[Scope] | Awaitable[Iterable[Scope] | None] | None:
    """The scopes that are granted to an identity; called by the token endpoint before it signs.

    The hook can only narrow the scopes that the endpoint's rules grant: anything beyond `scopes` is
    cut. Where the endpoint's configuration makes this plugin the backend, there are no rules, and
    `scopes` is the whole request. Every plugin is called, one after the other, each with the scopes
    that the plugins before it have left. The function may be `async`; a plain one runs in a thread.
    One that raises, or takes longer than ten seconds, denies everything.

    Args:
        identity: the identity that logged in; `identity.anonymous` without a login.
        scopes: the scopes that may be granted at most, each resource once, with at least one action
            each.
        service: the registry that the token is for.

    Returns:
        the part of `scopes` that is granted (`scope & Scope.read(scope.name)` narrows one to
        reading); or None for no decision: the grant of the rules stays, and a backend grants
        nothing.
    """
    return None


@hookspec
def dockhand_event_parsers() -> Sequence[EventParser]:  # type: ignore[empty-body]
    """Parsers for notification formats beside Distribution's and zot's: objects with two methods.

    `matches(headers)` tells whether a notification is in the format; names of headers are found in
    any case. `parse(headers, body)` returns its events, or raises `EventInvalid`: the notification
    is then kept as a dead letter, for `replay` once the parser can read it. Both methods must
    return at once. Parsers of plugins come before the core's own, the last registered first.
    """


@hookspec
def dockhand_event(event: events.RegistryBaseEvent) -> Awaitable[None] | None:
    """Called with every event, of any class: `event` is a `RegistryBaseEvent`.

    This hook and those below are handlers of events. A handler's name is `<name>/<hook>`, with the
    name that the plugin was registered by, or that of its entry point. It may be `async`; a plain
    function runs in a thread. It is called at least once for each event, so it has to expect a
    repetition: the same `event.id`. Events of one repository come one by one, in order of arrival.
    An exception is logged, and the handler is called again later, until it succeeds or the event is
    put among the dead letters; no other handler waits for it.
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
    """Called when a blob was mounted from another repository.

    `event` is a `BlobMounted`; see `dockhand_event`.
    `event.from_repository` is the repository that it was mounted from.
    """
    return None


@hookspec
def dockhand_manifest_deleted(event: events.ManifestDeleted) -> Awaitable[None] | None:
    """Called when a manifest or index was deleted by digest.

    `event` is a `ManifestDeleted`; see `dockhand_event`.
    Distribution reports deleted blobs this way, too: see the class.
    """
    return None


@hookspec
def dockhand_blob_deleted(event: events.BlobDeleted) -> Awaitable[None] | None:
    """Called when a blob was deleted.

    `event` is a `BlobDeleted`; see `dockhand_event`.
    Distribution reports deleted blobs as `ManifestDeleted`.
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
    The event has its name and nothing else.
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
    """Called when zot scanned an image for vulnerabilities.

    `event` is an `ImageScanned`; see `dockhand_event`.
    `event.summary` is the result.
    """
    return None
