"""Managers of named connections (`Dockhand`), and clients for a single URL (`connect`)."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from dockhand_core.async_client import AsyncRegistryClient
from dockhand_core.client import RegistryClient
from dockhand_core.config import ConnectionConfig, DockhandConfig, load_config
from dockhand_core.connection_parts import ConnectionParts, check_settings, make_parts
from dockhand_core.errors import DockhandError, DriverMismatch, PluginNotFound
from dockhand_core.http.closing import noting
from dockhand_core.models import Reference
from dockhand_core.models.reference import DOCKER_HUB
from dockhand_core.places import Place, connection_of_host, parse_place, table_of_host
from dockhand_core.plugins import Plugins

__all__ = ["AsyncDockhand", "Dockhand", "async_connect", "connect"]

C = TypeVar("C", bound=RegistryClient)
A = TypeVar("A", bound=AsyncRegistryClient)
AnyClient = TypeVar("AnyClient", bound=RegistryClient | AsyncRegistryClient)

_managers: weakref.WeakSet[_Manager[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """Replace the locks in a forked child: a thread of the parent may have held one."""
    for manager in list(_managers):
        manager._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Manager(Generic[AnyClient]):
    """The base of both managers: the configuration, the plugins, and a client per connection."""

    def __init__(self, config: Mapping[str, Any] | DockhandConfig | None = None) -> None:
        if config is None:
            self.config = load_config()
        elif isinstance(config, DockhandConfig):
            self.config = config
        else:
            self.config = DockhandConfig.parse(config)
        self.plugins = Plugins()
        self._lock = threading.RLock()
        self._clients: dict[str, AnyClient] = {}
        self._located: dict[str, AnyClient] = {}  # those of hosts without a connection, by URL
        self._closed = False
        _managers.add(self)
        self.plugins.configure(self.config.plugins, self, self.config.base)
        self.plugins.check_strict()

    def _make(self, parts: ConnectionParts, name: str) -> AnyClient:
        raise NotImplementedError

    def _client(self, name: str | None, kind: type | None) -> AnyClient:
        known, table = self.config.connection(name)
        with self._lock:
            if self._closed:
                raise DockhandError("this manager is closed")
            client = self._clients.get(known)
            if client is None:
                parts = make_parts(self.plugins, known, table, self.config.base)
                client = self._clients[known] = self._make(parts, known)
        if kind is not None and not isinstance(client, kind):
            raise DriverMismatch(
                f"connection {known!r} has driver {table.driver!r}, whose client is "
                f"{type(client).__name__}, not {kind.__name__}"
            )
        return client

    def locate(self, reference: str | Reference) -> Place[AnyClient]:
        """Find the registry of an image's reference: its client, the repository, the tag or digest.

        The client is that of the configured connection with the host and port of the reference; of
        several, the default connection, else the first one in the file. A connection whose
        `base_uri` has a path, or whose driver has no `base_uri`, is found by its name only:
        `@staging/library/nginx:1.27`.

        For a host without a configured connection, one is made, and reused by later calls: with the
        driver `distribution`, the auth driver `token`, which uses the credentials that docker
        stores, and https (http for localhost, 127.0.0.0/8 and [::1]). The manager closes it.

        The call sends nothing, and is not awaited in `AsyncDockhand`.

        Args:
            reference: a `Reference`; a text as for `Reference.parse`; or the text
                `@connection/repository[:tag][@digest]`, in which the repository is named in full.

        Raises:
            ReferenceInvalid: the text is not a reference.
            ConfigError: no connection has the name after `@`, or its settings are wrong.
            PluginNotFound: a driver of the connection is not installed.
        """
        parsed = parse_place(reference, self.config)
        name = parsed.connection
        if name is None:
            assert parsed.host is not None
            name = connection_of_host(parsed.host, self.config)
        if name is not None:
            client = self._client(name, None)
        else:
            client = self._client_of_host(parsed.host or "")
        return Place(client, parsed.repository, parsed.reference)

    def _named_hint(self, host: str) -> str:
        """The way to name a configured connection, for a reference without a host."""
        names = self.config.connections
        if host != DOCKER_HUB or not names:
            return ""
        name = self.config.default if self.config.default in names else next(iter(names))
        return (
            f"; a name without a host is one of {DOCKER_HUB}: write @{name}/REPOSITORY for a "
            f"repository of the connection {name!r}"
        )

    def _client_of_host(self, host: str) -> AnyClient:
        """The client of a host without a configured connection, made on the first call."""
        url, table = table_of_host(host)
        with self._lock:
            if self._closed:
                raise DockhandError("this manager is closed")
            client = self._located.get(url)
            if client is None:
                try:
                    parts = make_parts(self.plugins, host, table, self.config.base)
                except PluginNotFound as error:
                    raise PluginNotFound(
                        f"no connection is configured for {host!r}, and none can be made: {error}"
                        f"{self._named_hint(host)}"
                    ) from None
                client = self._located[url] = self._make(parts, host)
        return client

    def _take_clients(self) -> list[AnyClient]:
        """Mark this manager as closed, and return the clients that have to be closed."""
        with self._lock:
            self._closed = True
            clients = [*self._clients.values(), *self._located.values()]
            self._clients.clear()
            self._located.clear()
        return clients

    @property
    def closed(self) -> bool:
        """Whether `close` was called. A closed manager gives no client."""
        return self._closed

    @property
    def connections(self) -> tuple[str, ...]:
        """The names of the configured connections."""
        return tuple(self.config.connections)

    def check_connection(self, name: str | None = None) -> None:
        """Check the settings of a connection, without making its client.

        Nothing is sent, and no file or folder is made. A file that the settings name, such as a
        key, may be read only when the connection is made.

        Args:
            name: the connection's name; None for the default connection.

        Raises:
            ConfigError: no connection has that name, or its settings are wrong.
            PluginError: one of its drivers is not installed, or cannot be imported.
        """
        known, table = self.config.connection(name)
        check_settings(self.plugins, known, table, self.config.base)

    def _existing(self, name: str | None) -> AnyClient | None:
        known, _ = self.config.connection(name)
        with self._lock:
            return self._clients.get(known)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.connections) or 'without connections'}>"


class Dockhand(_Manager[RegistryClient]):
    """Manager of the named connections of a configuration.

    A connection is made when it is first requested, and then reused. Threads may share the manager
    and its connections. A forked process opens its own sockets.

    Args:
        config: the configuration, as a `DockhandConfig` or as a mapping with the structure of
            `dockhand.toml`; no file or environment variable is read then. None reads the file
            `dockhand.toml` in the working folder, or the file that the environment variable
            `DOCKHAND_CONFIG` names; environment variables override its settings.

    Attributes:
        config: the configuration, a `DockhandConfig`. `config.connections` has the table of each
            connection by its name, such as `config.connections["main"].driver`.
        plugins: the plugins of this manager.

    Raises:
        ConfigError: a setting is wrong; the message names the connection or the plugin, and the
            setting.
        PluginError: the hook `dockhand_configure` of a plugin with settings failed; or a plugin is
            broken, and the environment variable `DOCKHAND_STRICT_PLUGINS` is set.
    """

    @overload
    def connection(self, name: str | None = None) -> RegistryClient: ...

    @overload
    def connection(self, name: str | None, client: type[C]) -> C: ...

    def connection(self, name: str | None = None, client: type[C] | None = None) -> Any:
        """The client of a connection, made on the first call.

        Args:
            name: the connection's name; None for the default connection.
            client: the class that the client must have; type checkers infer it as the result's
                type.

        Raises:
            ConfigError: no connection has that name, or its settings are wrong.
            PluginNotFound: its registry driver, auth driver or log driver is not installed.
            PluginConflict: two packages provide one of these drivers.
            PluginError: one of these drivers cannot be imported or set up.
            DriverMismatch: the client is not an instance of `client`.
        """
        return self._client(name, client)

    def disconnect(self, name: str | None = None) -> None:
        """Close a connection's sockets and forget its cached tokens; the next use reconnects.

        Args:
            name: the connection's name; None for the default connection.

        Raises:
            ConfigError: no connection has that name.
        """
        client = self._existing(name)
        if client is not None:
            client.reset()

    def _make(self, parts: ConnectionParts, name: str) -> RegistryClient:
        return parts.client(name)

    def close(self) -> None:
        """Close every connection; the manager cannot be used afterwards.

        Raises:
            PluginError: the `close` method of a plugin failed; everything else was closed.
        """
        clients = self._take_clients()
        with ExitStack() as stack:  # calls every `close`, even if one of them raises
            for client in clients:
                stack.callback(client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with noting(error):
            self.close()


class AsyncDockhand(_Manager[AsyncRegistryClient]):
    """Manager of the named connections of a configuration, for asyncio; see `Dockhand`."""

    @overload
    def connection(self, name: str | None = None) -> AsyncRegistryClient: ...

    @overload
    def connection(self, name: str | None, client: type[A]) -> A: ...

    def connection(self, name: str | None = None, client: type[A] | None = None) -> Any:
        """The client of a connection; see `Dockhand.connection`. The call is not awaited."""
        return self._client(name, client)

    async def disconnect(self, name: str | None = None) -> None:
        """Close a connection's sockets and forget its cached tokens; the next use reconnects.

        Args:
            name: the connection's name; None for the default connection.

        Raises:
            ConfigError: no connection has that name.
        """
        client = self._existing(name)
        if client is not None:
            await client.reset()

    def _make(self, parts: ConnectionParts, name: str) -> AsyncRegistryClient:
        return parts.async_client(name)

    async def close(self) -> None:
        """Close every connection; the manager cannot be used afterwards.

        Raises:
            PluginError: the `close` method of a plugin failed; everything else was closed.
        """
        clients = self._take_clients()
        async with AsyncExitStack() as stack:
            for client in clients:
                stack.push_async_callback(client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with noting(error):
            await self.close()


def connect(base_uri: str, *, driver: str = "distribution", **settings: Any) -> RegistryClient:
    """Make a client for one registry, without reading a configuration file or the environment.

    Args:
        base_uri: the registry's URL, with or without `/v2/`, such as `http://localhost:5000`. For a
            driver that has no setting `base_uri`, the value of its first setting, such as `root` of
            the driver `embedded`.
        driver: the registry driver's name.
        settings: other settings of the connection, as in `dockhand.toml`: `auth`, `timeout`,
            `verify` …

    Raises:
        ConfigError: a setting is wrong.
        PluginNotFound: the registry driver, auth driver or log driver is not installed.
    """
    plugins = Plugins()
    plugins.check_strict()
    table = _single(plugins, base_uri, driver, settings)
    return make_parts(plugins, "default", table, Path.cwd()).client("default")


def async_connect(
    base_uri: str, *, driver: str = "distribution", **settings: Any
) -> AsyncRegistryClient:
    """Make an async client for one registry; see `connect`. The call is not awaited."""
    plugins = Plugins()
    plugins.check_strict()
    table = _single(plugins, base_uri, driver, settings)
    return make_parts(plugins, "default", table, Path.cwd()).async_client("default")


def _single(
    plugins: Plugins, base_uri: str, driver: str, settings: dict[str, Any]
) -> ConnectionConfig:
    fields = plugins.driver("registry", driver).Settings.model_fields
    place = "base_uri" if "base_uri" in fields or not fields else next(iter(fields))
    table = {"driver": driver, place: base_uri, **settings}
    return DockhandConfig.parse({"connections": {"default": table}}).connection()[1]
