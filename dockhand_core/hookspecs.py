"""The hooks of the core. A plugin implements the hooks that it needs, with `hookimpl`.

A plugin is a package with an entry point in the group `dockhand`. The entry point is a module or an
object with functions that are decorated with `hookimpl`. It is loaded when the first manager is
made, so its module should import little. Therefore a driver can be given as a string
`"package.module:Class"`; it is then imported when a connection first uses it::

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

if TYPE_CHECKING:  # only for types, so that a plugin's module `hooks` stays light
    import typer
    from pydantic import SecretStr

    from dockhand_core import events
    from dockhand_core.auth import AuthDriver
    from dockhand_core.driver import RegistryDriver
    from dockhand_core.events import EventParser, RouteEventParser
    from dockhand_core.identity import Identity
    from dockhand_core.logs import LogSettings
    from dockhand_core.manager import AsyncDockhand, Dockhand
    from dockhand_core.plugin_settings import PluginSettings
    from dockhand_core.scope import Scope

__all__ = [
    "GROUP",
    "dockhand_auth_drivers",
    "dockhand_authenticate",
    "dockhand_authorize",
    "dockhand_blob_deleted",
    "dockhand_blob_mounted",
    "dockhand_blob_pulled",
    "dockhand_blob_pushed",
    "dockhand_commands",
    "dockhand_configure",
    "dockhand_event",
    "dockhand_event_parsers",
    "dockhand_identify",
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
    """Provide registry drivers: a dict of driver name to `RegistryDriver` subclass.

    A connection selects a driver by its name, with the setting `driver`. The class may be given as
    `"package.module:Class"`. If two packages provide a driver of the same name, a connection that
    selects this name raises `PluginConflict`.
    """


@hookspec
def dockhand_auth_drivers() -> Mapping[str, type[AuthDriver] | str]:  # type: ignore[empty-body]
    """Provide auth drivers: a dict of driver name to `AuthDriver` subclass.

    A connection selects a driver by its name, with the setting `auth.driver`. The other keys of the
    table `auth` are checked against the class's `Settings`. The class may be given as
    `"package.module:Class"`.

    A driver's `close` is called when the connection is closed or reset. It may be a generator
    function, such as `auth_flow`, and send requests with `yield from self.fetch(…)`: see
    `AuthDriver.close`.
    """


@hookspec
def dockhand_log_drivers() -> Mapping[str, Callable[[LogSettings, str], Any] | str]:  # type: ignore[empty-body]
    """Provide log drivers: a dict of driver name to a callable `(settings, connection_name)`.

    The callable returns a structlog logger, which it makes with `dockhand_core.logs.make_logger`.
    `settings.options` has the driver's own keys of the connection's `logging` table. A relative
    path among them starts at `settings.base`. The callable may be given as
    `"package.module:function"`.

    If the object that is passed to `make_logger` as `logger` has a method `close`, it is called
    when the connection is closed. An async client calls a plain function in a thread; there, it may
    also be a coroutine function.
    """


@hookspec
def dockhand_commands() -> Mapping[str, typer.Typer | str]:  # type: ignore[empty-body]
    """Provide commands of the program `dockhand`: a dict of name to typer application.

    `dockhand NAME …` calls the application (`typer.Typer`) of that name, from the package
    `dockhand-cli`. It should be given as `"package.module:attribute"`: it is then imported when
    the command is called, so that all other commands, and programs without typer, do not load it::

        @hookimpl
        def dockhand_commands():
            return {"vault": "dockhand_vault.commands:app"}

    A name has letters, digits, `-` and `_`, and begins with a letter or digit. If two packages
    provide a command of the same name, the call of this command raises `PluginConflict`.
    """


@hookspec
def dockhand_configure(settings: PluginSettings, dockhand: Dockhand | AsyncDockhand) -> None:
    """Configure the plugin; called once when a manager is made, or at the plugin's registration.

    The settings are the table `[plugins.<name>]` of `dockhand.toml`, where `<name>` is the name of
    the plugin's entry point, or the name that the plugin was registered by::

        class Settings(BaseModel):
            channel: str
            token: SecretStr  # or token_file = "…"

        @hookimpl
        def dockhand_configure(settings, dockhand):
            global notifier
            notifier = Notifier(settings.parse(Settings))

    The hook is called for each manager, `Dockhand` or `AsyncDockhand`, before the manager makes a
    client. An installed module is shared by all managers of a process, so the last settings count.
    The receiver, the token endpoint and Celery's workers make a `Dockhand` for it, if the program
    has passed none; `connect` makes no manager, and does not call the hook. The function must not
    be `async`, and must not make a manager, which would call the hook again.

    To refuse the settings, raise `ConfigError` or `ValueError`. If the configuration has the table,
    the manager is then not made; without the table, the plugin is left out with a warning, for the
    reason in `Plugins.configure`. At a registration, `register` raises the error.

    Args:
        settings: the plugin's settings, a dict with the method `parse`. It is empty if there is no
            such table.
        dockhand: the manager. Its connections may be used later, by handlers in threads, too,
            until the program closes it (`dockhand.closed`).
    """


@hookspec
def dockhand_authenticate(
    username: str, password: SecretStr, service: str
) -> Identity | Awaitable[Identity | None] | None:
    """Authenticate a user by user name and password; called by the token endpoint.

    The hook is not called for users in the endpoint's own htpasswd file. If several plugins
    implement it, they are called one after the other until one returns an identity. If a plugin
    raises an exception, or takes longer than ten seconds, the login is refused. The function may be
    `async`; a plain function runs in a thread.

    Args:
        username: user name as the client sent it; not empty, without control characters.
        password: password as the client sent it.
        service: name of the registry that the token is for.

    Returns:
        the identity, whose name the endpoint's rules refer to; None if this plugin does not know
        the user, or if the password is wrong.
    """
    return None


@hookspec
def dockhand_identify(username: str, service: str) -> Identity | Awaitable[Identity | None] | None:
    """Identify a user without a password; called by the token endpoint at each refresh.

    A client may store a refresh token instead of the password. Whenever it uses the refresh token,
    the endpoint calls this hook of the plugin whose `dockhand_authenticate` confirmed the password,
    so that a deleted account, or a change of its groups, takes effect at once. The users of a
    plugin without this hook get no refresh tokens.

    If the plugin raises an exception, takes longer than ten seconds, or returns another object,
    the refresh is refused, and may succeed later. The function may be `async`; a plain function
    runs in a thread.

    Args:
        username: user name as the client sent it at the login.
        service: name of the registry that the token is for.

    Returns:
        the identity, with the present groups, and with the same name that `dockhand_authenticate`
        returned; None if the account no longer exists or is disabled. With None the refresh token
        ends, and the user has to log in again.
    """
    return None


@hookspec
def dockhand_authorize(
    identity: Identity, scopes: tuple[Scope, ...], service: str
) -> Iterable[Scope] | Awaitable[Iterable[Scope] | None] | None:
    """Decide which scopes to grant; called by the token endpoint before it signs a token.

    The hook can only reduce the scopes that the endpoint's rules grant: returned scopes that are
    not in `scopes` are ignored. If the endpoint's setting `backend` names this plugin, the plugin
    replaces the rules, and `scopes` is everything that the client requested.

    All plugins are called, one after the other, each with the scopes that the plugin before it
    granted. If a plugin raises an exception, or takes longer than ten seconds, nothing is granted.
    The function may be `async`; a plain function runs in a thread.

    Args:
        identity: the user, or an anonymous client (`identity.anonymous`).
        scopes: the scopes that can be granted. Each has at least one action, and no two are of the
            same resource.
        service: name of the registry that the token is for.

    Returns:
        the scopes that are granted; `scope & Scope.read(scope.name)` reduces a scope to reading.
        None leaves the decision to the rules and the other plugins; from a backend, None grants
        nothing.
    """
    return None


@hookspec
def dockhand_event_parsers() -> Sequence[EventParser | RouteEventParser]:  # type: ignore[empty-body]
    """Provide parsers for notification formats other than those of Distribution and zot.

    A parser is an object with two methods, as in `dockhand_core.events.EventParser`.
    `matches(headers)` returns whether a notification may be in the parser's format; the names in
    `headers` are case-insensitive. It may be `matches(headers, connection)` instead, where
    `connection` is the last part of the route, such as `harbor` of `/dockhand/notify/harbor`, or
    None. `parse(headers, body)` returns the notification's events, or None if the body is in
    another format, so that the next parser is tried. If it raises `EventInvalid`, the notification
    becomes a dead letter, which can be replayed after the parser has been fixed. Neither method may
    block.

    The plugins' parsers are tried before the core's, in reverse order of registration.
    """


@hookspec
def dockhand_event(event: events.RegistryBaseEvent) -> Awaitable[None] | None:
    """Called with every event, of any class: `event` is a `RegistryBaseEvent`.

    Implementations of this hook and of the hooks below are event handlers. A handler's name is
    `<plugin>/<hook>`, where `<plugin>` is the name of the plugin's entry point, or the name that
    the plugin was registered by. A handler may be `async`; a plain function runs in a thread.

    A handler is called at least once for each event, so it may get an event with the same
    `event.id` again. It gets the events of one repository one by one, in order of arrival. If the
    handler raises an exception, the exception is logged, and the handler is called again later,
    until it succeeds or the event becomes a dead letter. Other handlers do not wait meanwhile.
    """
    return None


@hookspec
def dockhand_manifest_pushed(event: events.ManifestPushed) -> Awaitable[None] | None:
    """Called when a manifest or index was pushed.

    `event` is a `ManifestPushed`; see `dockhand_event`.
    `event.tag` is None if the manifest was pushed by digest.
    """
    return None


@hookspec
def dockhand_manifest_pulled(event: events.ManifestPulled) -> Awaitable[None] | None:
    """Called when a manifest or index was pulled, or requested with HEAD.

    `event` is a `ManifestPulled`; see `dockhand_event`.
    `event.request_method` is `GET` or `HEAD`.
    """
    return None


@hookspec
def dockhand_blob_pushed(event: events.BlobPushed) -> Awaitable[None] | None:
    """Called when a blob was pushed.

    `event` is a `BlobPushed`; see `dockhand_event`.
    The repository may have had the blob before.
    """
    return None


@hookspec
def dockhand_blob_pulled(event: events.BlobPulled) -> Awaitable[None] | None:
    """Called when a blob was pulled in whole or in part, or requested with HEAD.

    `event` is a `BlobPulled`; see `dockhand_event`.
    `event.request_method` is `GET` or `HEAD`. The event does not show which part was pulled.
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
    Most deleted blobs are also reported by this event; `ManifestDeleted` explains why.
    """
    return None


@hookspec
def dockhand_blob_deleted(event: events.BlobDeleted) -> Awaitable[None] | None:
    """Called when a blob was deleted.

    `event` is a `BlobDeleted`; see `dockhand_event`.
    Most deleted blobs are reported as `ManifestDeleted` instead; that class explains why.
    """
    return None


@hookspec
def dockhand_tag_deleted(event: events.TagDeleted) -> Awaitable[None] | None:
    """Called when a tag was deleted.

    `event` is a `TagDeleted`; see `dockhand_event`.
    If Distribution deletes a manifest by digest, the hook is called for each of its tags.
    """
    return None


@hookspec
def dockhand_repository_deleted(event: events.RepositoryDeleted) -> Awaitable[None] | None:
    """Called when a repository was deleted.

    `event` is a `RepositoryDeleted`; see `dockhand_event`.
    The event has the name of the repository, but not the tags and manifests that it had.
    """
    return None


@hookspec
def dockhand_repository_created(event: events.RepositoryCreated) -> Awaitable[None] | None:
    """Called when zot created a repository.

    `event` is a `RepositoryCreated`; see `dockhand_event`.
    The repository may be empty: zot creates it at the first upload, mount or HEAD request.
    """
    return None


@hookspec
def dockhand_image_lint_failed(event: events.ImageLintFailed) -> Awaitable[None] | None:
    """Called when zot refused a manifest because it lacks a mandatory annotation.

    `event` is an `ImageLintFailed`; see `dockhand_event`.
    zot did not store the manifest.
    """
    return None


@hookspec
def dockhand_image_scanned(event: events.ImageScanned) -> Awaitable[None] | None:
    """Called when zot scanned an image for vulnerabilities.

    `event` is an `ImageScanned`; see `dockhand_event`.
    `event.summary` is the result of the scan.
    """
    return None
