"""The parts of a connection's client, made from its settings, with checks of plugins' parts."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from dockhand_core.async_client import AsyncRegistryClient
from dockhand_core.auth import AuthDriver, knowing
from dockhand_core.client import RegistryClient
from dockhand_core.config import ConnectionConfig
from dockhand_core.config.connections import driver_variable
from dockhand_core.config.validation import validate_table, variable_of
from dockhand_core.driver import RegistryDriver
from dockhand_core.driver_checks import (
    call_plugin,
    check_client,
    check_logger,
    construct,
    guard_operations,
)
from dockhand_core.errors import ConfigError, DockhandError, PluginError, PluginNotFound
from dockhand_core.flow import RetryPolicy
from dockhand_core.flow.checks import described, dispose
from dockhand_core.http.async_runner import AsyncRunner
from dockhand_core.http.exchange import RegistryEndpoint
from dockhand_core.http.secrets import Secrets, secrets_of
from dockhand_core.http.sync_runner import SyncRunner
from dockhand_core.plugins import Plugins, core_version

if TYPE_CHECKING:
    import httpx

    from dockhand_core.http.transports import TransportOptions

__all__ = ["ConnectionParts", "check_settings", "make_parts"]


_CLIENT_ARGUMENTS = "driver, runner and name"


class ConnectionParts:
    """The parts that a sync or an async client is made of.

    Args:
        driver: the registry driver.
        endpoint: the registry's endpoint.
        own: the driver's own transport, or None.
        options: the options of the transport, if the driver has none of its own.
        where: start of error messages, such as `connection 'main'`.
    """

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

    def client(self, name: str) -> RegistryClient:
        """Make a sync client; `name` is the connection's."""
        where = f"{self._where}: registry driver {self.driver.name!r}"
        kind = check_client(where, type(self.driver), "client", RegistryClient)
        self._check_transport(where, "handle_request", "httpx.BaseTransport")
        runner = SyncRunner(self.endpoint, self._transport, self._options.max_connections)
        runner.registry = self._registry
        with _without_secrets(self.endpoint.secrets):
            return construct(where, kind, self.driver, runner, name, needs=_CLIENT_ARGUMENTS)

    def async_client(self, name: str) -> AsyncRegistryClient:
        """Make an async client; `name` is the connection's."""
        where = f"{self._where}: registry driver {self.driver.name!r}"
        kind = check_client(where, type(self.driver), "async_client", AsyncRegistryClient)
        self._check_transport(where, "handle_async_request", "httpx.AsyncBaseTransport")
        limit = self._options.max_connections
        runner = AsyncRunner(self.endpoint, self._async_transport, limit)
        runner.registry = self._registry
        with _without_secrets(self.endpoint.secrets):
            return construct(where, kind, self.driver, runner, name, needs=_CLIENT_ARGUMENTS)

    @property
    def _registry(self) -> Hashable:
        """The identity of the registry: its URL, or the driver's own transport."""
        return self.endpoint.registry if self._own is None else id(self._own)

    def _check_transport(self, where: str, method: str, base: str) -> None:
        own = self._own
        if own is not None and (isinstance(own, type) or not hasattr(own, method)):
            dispose(own)
            raise PluginError(
                f"{where}: {type(self.driver).__name__}.transport returned {described(own)}; it "
                f"has to return an {base} for this client, or None"
            )

    def _transport(self) -> httpx.BaseTransport:
        if self._own is not None:
            return cast("httpx.BaseTransport", self._own)
        from dockhand_core.http.transports import build_transport

        with _naming_connection(self._where):
            return build_transport(self._options)

    def _async_transport(self) -> httpx.AsyncBaseTransport:
        if self._own is not None:
            return cast("httpx.AsyncBaseTransport", self._own)
        from dockhand_core.http.transports import build_async_transport

        with _naming_connection(self._where):
            return build_async_transport(self._options)


@contextmanager
def _naming_connection(where: str) -> Iterator[None]:
    """Add the connection's name to a `ConfigError` of the transport."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error.__cause__


@contextmanager
def _naming_dropped(table: ConnectionConfig, model: type[BaseModel]) -> Iterator[None]:
    """Name the secrets of the file that are not used, if the settings without them are wrong."""
    try:
        yield
    except ConfigError as error:
        dropped = sorted(table.dropped(model))
        if not dropped:
            raise
        raise ConfigError(
            f"{error} (not used: {', '.join(dropped)} of the file, since the environment names "
            "another registry; set it in the environment, too)"
        ) from None


@contextmanager
def _settings_errors(where: str, driver: type) -> Iterator[None]:
    """Convert an exception of a driver's `Settings` to a `PluginError`, without its text.

    The text of an exception of a validator may contain a value, which may be a secret.
    """
    try:
        yield
    except DockhandError:
        raise
    except Exception as error:
        raise PluginError(
            f"{where}: {driver.__name__}.Settings raised {type(error).__name__} when it checked "
            "the connection's settings; a validator has to raise ValueError"
        ) from None


@contextmanager
def _without_secrets(secrets: Secrets) -> Iterator[None]:
    """Remove the secrets of the settings from the errors of plugins."""
    try:
        yield
    except DockhandError as error:
        secrets.clean(error)
        raise


class CheckedSettings(NamedTuple):
    """The settings of a connection that were found to be right, and the classes of its drivers.

    Attributes:
        driver_class: the registry driver's class.
        driver: the registry driver's settings.
        auth_class: the auth driver's class.
        auth: the auth driver's settings.
        make_logger: the log driver.
        url: the registry's URL, without `/v2/`.
        secrets: the secrets of all settings.
    """

    driver_class: type[RegistryDriver]
    driver: Any
    auth_class: type[AuthDriver]
    auth: Any
    make_logger: Any
    url: str
    secrets: Secrets


def check_settings(
    plugins: Plugins, name: str, table: ConnectionConfig, base: Path
) -> CheckedSettings:
    """Check a connection's settings, without making anything of them.

    Args:
        plugins: the plugins, which provide the drivers.
        name: the connection's name.
        table: the settings.
        base: folder that relative paths in the settings start at.

    Raises:
        ConfigError: a setting is wrong.
        PluginError: a driver is not installed or cannot be imported, or its class for settings
            failed.
    """
    where = f"connection {name!r}"
    driver_class = _driver(plugins, "registry", table.driver, driver_variable(table, "driver"))
    registry = f"{where}: registry driver {table.driver!r}"
    with _settings_errors(registry, driver_class), _naming_dropped(table, driver_class.Settings):
        settings = validate_table(
            driver_class.Settings,
            table.options_for(driver_class.Settings),
            where=where,
            base=base,
            also=ConnectionConfig.model_fields,
        )
    auth_variable = driver_variable(table, "auth.driver")
    auth_class = _driver(plugins, "auth", table.auth.driver, auth_variable)
    with _settings_errors(f"{where}: auth driver {table.auth.driver!r}", auth_class):
        auth_settings = validate_table(
            auth_class.Settings,
            table.auth.options,
            where=f"{where}: auth",
            base=base,
            also=["driver"],
        )
    log_variable = driver_variable(table, "logging.driver")
    make_logger = _driver(plugins, "log", table.logging.driver, log_variable)
    method = f"{registry}: {driver_class.__name__}"
    secrets = Secrets(secrets_of([table, settings, auth_settings, _environment_proxies()]))
    with _without_secrets(secrets):
        uri = call_plugin(f"{method}.base_uri", driver_class.base_uri, settings)
    if not isinstance(uri, str):
        raise PluginError(f"{method}.base_uri returned {described(uri)}, not a string")
    url = _base_url(uri, variable_of(table.options, ("base_uri",)) + where)
    return CheckedSettings(
        driver_class, settings, auth_class, auth_settings, make_logger, url, secrets
    )


def _driver(plugins: Plugins, kind: str, name: str, start: str) -> Any:
    """The driver of a name; the message of an error begins with `start`."""
    try:
        return plugins.driver(kind, name)
    except PluginNotFound as error:
        if not start:
            raise
        raise PluginNotFound(f"{start}{error}") from None


def make_parts(plugins: Plugins, name: str, table: ConnectionConfig, base: Path) -> ConnectionParts:
    """Check a connection's settings, and make the parts of its client.

    Args:
        plugins: the plugins, which provide the drivers.
        name: the connection's name.
        table: the settings.
        base: folder that relative paths in the settings start at.

    Raises:
        ConfigError: a setting is wrong.
        PluginError: a driver is not installed, or cannot be imported or set up.
    """
    checked = check_settings(plugins, name, table, base)
    with _without_secrets(checked.secrets):
        return _parts(checked, name, table, base)


def _parts(
    checked: CheckedSettings, name: str, table: ConnectionConfig, base: Path
) -> ConnectionParts:
    from dockhand_core.http.transports import TransportOptions

    where = f"connection {name!r}"
    driver_class, settings, auth_class, auth_settings, make_logger, uri, secrets = checked
    registry = f"{where}: registry driver {table.driver!r}"
    auth_name = f"{where}: auth driver {table.auth.driver!r}"
    driver: RegistryDriver = construct(registry, driver_class, settings, needs="the settings")
    driver.name, driver.retry = table.driver, RetryPolicy(table.retries)
    driver.chunk_size = table.chunk_size
    driver.list_limit = table.list_limit
    guard_operations(driver)
    method = f"{registry}: {driver_class.__name__}"
    own = call_plugin(f"{method}.transport", driver_class.transport, settings)
    log_name = f"{where}: log driver {table.logging.driver!r}"
    needs = "the settings and the connection's name"
    log = construct(log_name, make_logger, table.logging.with_base(base), name, needs=needs)
    log = check_logger(log_name, log, connection=name, driver=table.driver)

    def make_auth() -> AuthDriver:
        with knowing(secrets):
            auth: AuthDriver = construct(auth_name, auth_class, auth_settings, needs="the settings")
        return auth

    endpoint = RegistryEndpoint(
        base=uri,
        make_auth=make_auth,
        log=log,
        user_agent=f"dockhand/{core_version()}",
        headers={key: value.get_secret_value() for key, value in table.headers.items()},
        timeout=table.timeout,
        commit_timeout=table.commit_timeout,
        retry=driver.retry,
        upload_origins=table.upload_origins,
        secrets=secrets,
        rate_limit_timeout=table.rate_limit_timeout,
        auth_name=table.auth.driver,
        log_fetches=table.logging.level == "debug",  # not every plugin's logger filters by it
    )
    options = TransportOptions(
        name=table.transport,
        verify=table.verify,
        client_cert=table.client_cert,
        client_key=table.client_key,
        proxy=table.proxy.get_secret_value() if table.proxy else None,
        environment=True,
        home=uri,
        max_connections=table.max_connections,
    )
    return ConnectionParts(driver, endpoint, own, options, where)


def _environment_proxies() -> list[SecretStr]:
    """The proxies that the environment names, whose URLs may have a password."""
    return [SecretStr(url) for url in urllib.request.getproxies().values() if "@" in url]


def _base_url(uri: str, where: str) -> str:
    """Check a registry's URL, and return it without `/v2/`.

    Args:
        uri: the URL, as the configuration states it.
        where: start of error messages, such as `connection 'main'`.

    Raises:
        ConfigError: the URL has no host, or is not http or https; or it contains credentials, a
            query or a fragment.
    """
    if "://" not in uri:
        plain = re.fullmatch(r"[A-Za-z0-9.:/_-]+", uri)  # any other text may be a secret: not shown
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
