"""The parts that a connection's client is made of, with checks of those that a plugin makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from dockhand_core.async_client import AsyncRegistryClient
from dockhand_core.client import RegistryClient
from dockhand_core.driver import RegistryDriver
from dockhand_core.driver_checks import check_client, construct
from dockhand_core.errors import ConfigError, DockhandError, PluginError
from dockhand_core.flow.checks import described, dispose
from dockhand_core.http.exchange import RegistryEndpoint
from dockhand_core.http.runners import AsyncRunner, SyncRunner

if TYPE_CHECKING:
    import httpx

    from dockhand_core.http.transports import TransportOptions

__all__ = ["ConnectionParts", "settings_errors"]


class ConnectionParts:
    """The parts that a sync or an async client is made of."""

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
        runner = SyncRunner(self.endpoint, self._transport)
        return construct(where, kind, self.driver, runner, name, needs="driver, runner and name")

    def async_client(self, name: str) -> AsyncRegistryClient:
        """Make an async client; `name` is the connection's."""
        where = f"{self._where}: registry driver {self.driver.name!r}"
        kind = check_client(where, type(self.driver), "async_client", AsyncRegistryClient)
        self._check_transport(where, "handle_async_request", "httpx.AsyncBaseTransport")
        runner = AsyncRunner(self.endpoint, self._async_transport)
        return construct(where, kind, self.driver, runner, name, needs="driver, runner and name")

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
def settings_errors(where: str, driver: type) -> Iterator[None]:
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
