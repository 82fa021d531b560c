"""Named connections: `Dockhand`, `AsyncDockhand`, `connect`, `async_connect`."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload
from urllib.parse import urlsplit

from dockhand_core.async_client import AsyncRegistryClient
from dockhand_core.auth import AuthDriver
from dockhand_core.client import RegistryClient
from dockhand_core.config import ConnectionConfig, DockhandConfig, load_config
from dockhand_core.config.validation import validate_table
from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConfigError, DockhandError, DriverMismatch, PluginError
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.exchange import RegistryEndpoint
from dockhand_core.http.runners import AsyncRunner, SyncRunner
from dockhand_core.plugins import Plugins

if TYPE_CHECKING:
    import httpx

    from dockhand_core.http.transports import TransportOptions

__all__ = ["AsyncDockhand", "Dockhand", "async_connect", "connect"]

C = TypeVar("C", bound=RegistryClient)
A = TypeVar("A", bound=AsyncRegistryClient)
AnyClient = TypeVar("AnyClient", bound=RegistryClient | AsyncRegistryClient)

_managers: weakref.WeakSet[_Manager[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """Replace the locks in a forked child; a thread of the parent may have held one."""
    for manager in list(_managers):
        manager._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Manager(Generic[AnyClient]):
    """The base of both managers: the configuration, the plugins, one client for each name."""

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
        self._closed = False
        _managers.add(self)

    def _make(self, parts: _Parts, name: str) -> AnyClient:
        raise NotImplementedError

    def _client(self, name: str | None, kind: type | None) -> AnyClient:
        known, table = self.config.connection(name)
        with self._lock:
            if self._closed:
                raise DockhandError("this manager is closed")
            client = self._clients.get(known)
            if client is None:
                parts = _parts(self.plugins, known, table, self.config.base)
                client = self._clients[known] = self._make(parts, known)
        if kind is not None and not isinstance(client, kind):
            raise DriverMismatch(
                f"connection {known!r} has driver {table.driver!r}, whose client is "
                f"{type(client).__name__}, not {kind.__name__}"
            )
        return client

    @property
    def connections(self) -> tuple[str, ...]:
        """The names of the configured connections."""
        return tuple(self.config.connections)

    def _existing(self, name: str | None) -> AnyClient | None:
        known, _ = self.config.connection(name)
        with self._lock:
            return self._clients.get(known)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.connections) or 'without connections'}>"


class Dockhand(_Manager[RegistryClient]):
    """Named connections to registries.

    A connection is made when it is first asked for, and then reused. The manager and its
    connections may be used from several threads; a process that was forked makes its own sockets.

    Args:
        config: a mapping as in `dockhand.toml`, or a `DockhandConfig`: then neither a file nor
            the environment is read. Without it, `dockhand.toml` (in the working folder, or
            `DOCKHAND_CONFIG`) is read, and the environment over it.

    Raises:
        ConfigError: a setting is wrong; the message names connection and key.
    """

    @overload
    def connection(self, name: str | None = None) -> RegistryClient: ...

    @overload
    def connection(self, name: str | None, client: type[C]) -> C: ...

    def connection(self, name: str | None = None, client: type[C] | None = None) -> Any:
        """A connection's client.

        Args:
            name: the connection's name; the default one unless given.
            client: the class that the client must have; it gives the call its type.

        Raises:
            ConfigError: there is no such connection, or its settings are wrong.
            PluginNotFound: its driver, auth driver or log driver is not installed.
            PluginConflict: two packages provide one of them.
            PluginError: one of them cannot be imported.
            DriverMismatch: the client has another class.
        """
        return self._client(name, client)

    def disconnect(self, name: str | None = None) -> None:
        """Close a connection's sockets and forget its tokens; the next use reconnects.

        Raises:
            ConfigError: there is no such connection.
        """
        client = self._existing(name)
        if client is not None:
            client.reset()

    def _make(self, parts: _Parts, name: str) -> RegistryClient:
        return parts.driver.client(parts.driver, SyncRunner(parts.endpoint, parts.transport), name)

    def close(self) -> None:
        """Close every connection for good.

        Raises:
            PluginError: the `close` of a plugin failed; everything else is closed.
        """
        with self._lock:
            self._closed = True
            clients = list(self._clients.values())
            self._clients.clear()
        with ExitStack() as stack:  # which calls each, even if one raises
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
        self.close()


class AsyncDockhand(_Manager[AsyncRegistryClient]):
    """Named connections to registries, for asyncio; see `Dockhand`."""

    @overload
    def connection(self, name: str | None = None) -> AsyncRegistryClient: ...

    @overload
    def connection(self, name: str | None, client: type[A]) -> A: ...

    def connection(self, name: str | None = None, client: type[A] | None = None) -> Any:
        """A connection's client, not awaited; see `Dockhand.connection`."""
        return self._client(name, client)

    async def disconnect(self, name: str | None = None) -> None:
        """Close a connection's sockets and forget its tokens; the next use reconnects.

        Raises:
            ConfigError: there is no such connection.
        """
        client = self._existing(name)
        if client is not None:
            await client.reset()

    def _make(self, parts: _Parts, name: str) -> AsyncRegistryClient:
        runner = AsyncRunner(parts.endpoint, parts.async_transport)
        return parts.driver.async_client(parts.driver, runner, name)

    async def close(self) -> None:
        """Close every connection for good.

        Raises:
            PluginError: the `close` of a plugin failed; everything else is closed.
        """
        with self._lock:
            self._closed = True
            clients = list(self._clients.values())
            self._clients.clear()
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
        await self.close()


def connect(base_uri: str, *, driver: str = "distribution", **settings: Any) -> RegistryClient:
    """A client for one registry, without a configuration; neither file nor environment is read.

    Args:
        base_uri: the registry, with or without `/v2/`, such as `http://localhost:5000`. For a
            driver without a URL, its first setting (`root` of the embedded one).
        driver: the registry driver's name.
        settings: the keys of a connection's table: `auth`, `timeout`, `verify` …

    Raises:
        ConfigError: a setting is wrong.
        PluginNotFound: a driver is not installed.
    """
    plugins = Plugins()
    table = _single(plugins, base_uri, driver, settings)
    parts = _parts(plugins, "default", table, Path.cwd())
    return parts.driver.client(parts.driver, SyncRunner(parts.endpoint, parts.transport))


def async_connect(
    base_uri: str, *, driver: str = "distribution", **settings: Any
) -> AsyncRegistryClient:
    """The async twin of `connect`; not awaited, used with `async with`."""
    plugins = Plugins()
    table = _single(plugins, base_uri, driver, settings)
    parts = _parts(plugins, "default", table, Path.cwd())
    return parts.driver.async_client(
        parts.driver, AsyncRunner(parts.endpoint, parts.async_transport)
    )


def _single(
    plugins: Plugins, base_uri: str, driver: str, settings: dict[str, Any]
) -> ConnectionConfig:
    fields = plugins.driver("registry", driver).Settings.model_fields
    place = "base_uri" if "base_uri" in fields or not fields else next(iter(fields))
    table = {"driver": driver, place: base_uri, **settings}
    return DockhandConfig.parse({"connections": {"default": table}}).connection()[1]


class _Parts:
    """The parts of a client, for both worlds."""

    def __init__(
        self,
        driver: RegistryDriver,
        endpoint: RegistryEndpoint,
        own: Any,
        options: TransportOptions,
        where: str,
    ) -> None:
        self.driver, self.endpoint = driver, endpoint
        self._own, self._options, self._where = own, options, where

    def transport(self) -> httpx.BaseTransport:
        if self._own:
            return cast("httpx.BaseTransport", self._own)
        from dockhand_core.http.transports import build_transport

        with _naming_connection(self._where):
            return build_transport(self._options)

    def async_transport(self) -> httpx.AsyncBaseTransport:
        if self._own:
            return cast("httpx.AsyncBaseTransport", self._own)
        from dockhand_core.http.transports import build_async_transport

        with _naming_connection(self._where):
            return build_async_transport(self._options)


def _parts(plugins: Plugins, name: str, table: ConnectionConfig, base: Path) -> _Parts:
    """Check a connection's settings against its drivers, and make the parts of its client."""
    from dockhand_core.http.transports import TransportOptions, environment_proxy

    where = f"connection {name!r}"
    driver_class = plugins.driver("registry", table.driver)
    settings = validate_table(
        driver_class.Settings,
        table.options,
        where=where,
        base=base,
        also=ConnectionConfig.model_fields,
    )
    auth_class = plugins.driver("auth", table.auth.driver)
    auth_settings = validate_table(
        auth_class.Settings, table.auth.options, where=f"{where}: auth", base=base, also=["driver"]
    )
    make_logger = plugins.driver("log", table.logging.driver)
    with _plugin_errors(f"{where}: registry driver {table.driver!r}"):
        driver = driver_class(settings)
        uri = base_url(driver_class.base_uri(settings), where)
        own = driver_class.transport(settings)
    driver.name, driver.retry = table.driver, RetryPolicy(table.retries)
    with _plugin_errors(f"{where}: log driver {table.logging.driver!r}"):
        log = make_logger(table.logging, name).bind(connection=name, driver=table.driver)

    def make_auth() -> AuthDriver:
        with _plugin_errors(f"{where}: auth driver {table.auth.driver!r}"):
            auth: AuthDriver = auth_class(auth_settings)
        return auth

    endpoint = RegistryEndpoint(
        base=uri,
        make_auth=make_auth,
        log=log,
        user_agent=f"dockhand/{metadata.version('dockhand-core')}",
        headers={key: value.get_secret_value() for key, value in table.headers.items()},
        timeout=table.timeout,
        retry=driver.retry,
    )
    options = TransportOptions(
        name=table.transport,
        verify=table.verify,
        client_cert=table.client_cert,
        client_key=table.client_key,
        proxy=table.proxy.get_secret_value() if table.proxy else environment_proxy(uri),
        max_connections=table.max_connections,
    )
    return _Parts(driver, endpoint, own, options, where)


@contextmanager
def _naming_connection(where: str) -> Iterator[None]:
    """Name the connection in an error of the transport."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error.__cause__


@contextmanager
def _plugin_errors(what: str) -> Iterator[None]:
    """Report an exception of a plugin's set-up as a `PluginError`."""
    try:
        yield
    except DockhandError:
        raise
    except Exception as error:
        raise PluginError(f"{what}: {type(error).__name__}: {error}") from error


def base_url(uri: str, where: str) -> str:
    """A registry's URL without `/v2/`, checked."""
    if "://" not in uri:
        plain = re.fullmatch(r"[A-Za-z0-9.:/_-]+", uri)  # anything else may be a secret
        raise ConfigError(
            f"{where}: base_uri needs http:// or https://, such as 'https://{uri.strip('/')}'"
            if plain
            else f"{where}: base_uri needs http:// or https://, and no credentials"
        )
    try:
        parts = urlsplit(uri.strip())
        ok = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        ok = False
    if not ok:
        raise ConfigError(f"{where}: base_uri is not an http:// or https:// URL with a host")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{where}: base_uri holds credentials; they belong in the auth table: "
            'auth = { driver = "basic", username = "…", password = "…" }'
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"{where}: base_uri has a query or a fragment")
    path = parts.path.rstrip("/").removesuffix("/v2").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"
