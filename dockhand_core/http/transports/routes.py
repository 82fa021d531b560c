"""Routes: the proxy, the certificate and the rule for addresses, chosen for each request."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from dockhand_core.errors import ConfigError
from dockhand_core.http.addresses import ADDRESSES, AddressRule, refusals
from dockhand_core.http.transports.options import TransportOptions, ssl_context
from dockhand_core.http.transports.proxies import EnvironmentProxies, Proxies
from dockhand_core.http.urls import origin_of

__all__ = ["Route", "Routes"]


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a request to its target. Requests share connections only if routes are equal.

    Attributes:
        origin: scheme, host and port of the target.
        context: the TLS context for the target. Only the context for the registry's origin has the
            client certificate.
        proxy: the proxy; None for a direct connection.
        rule: the rule for the addresses that are connected to; None for any address. With a proxy
            there is none: the proxy looks the host up, and a local look-up may differ or fail.
    """

    origin: tuple[str, bytes, int | None]
    context: ssl.SSLContext
    proxy: httpx.Proxy | None
    rule: AddressRule | None


class Routes:
    """Chooses the route of each request.

    If the files of the client certificate have changed, because it was renewed, the next request to
    the registry loads them, and makes a new connection. If they cannot be used, such as a new
    certificate whose key is not written yet, the old certificate stays until they change again.

    Args:
        options: the options of the transport.

    Attributes:
        plain: the TLS context without the client certificate, which is also for https proxies.

    Raises:
        ConfigError: a certificate or key file cannot be read, or the proxy is not valid.
    """

    def __init__(self, options: TransportOptions) -> None:
        environment = EnvironmentProxies.read() if options.environment else None
        self._proxies = Proxies(options.proxy, environment)
        self.plain = ssl_context(options, certificate=False)
        self._own = self.plain
        self._options = options
        self._files = [each for each in (options.client_cert, options.client_key) if each]
        self._versions = [_version(file) for file in self._files]  # before they are read
        if self._files:
            self._own = ssl_context(options)
        self._home = None if options.home is None else origin_of(options.home)
        if options.home is not None:
            self._proxies.choose(options.home)  # an invalid proxy is reported now

    def choose(self, request: httpx.Request) -> Route:
        """The route of a request.

        Raises:
            ConfigError: the environment's proxy for this target is not valid.
            DockhandError: the request's rule refuses the host, which is itself an IP address.
        """
        url = request.url
        target = f"{url.scheme}://{url.netloc.decode('ascii')}/"
        rule: AddressRule | None = request.extensions.get(ADDRESSES)
        proxy = self._proxies.choose(target)
        if rule is not None:
            with refusals(rule):
                rule.check_host(url.raw_host.decode("ascii"))
        return Route(
            (url.scheme, url.raw_host, url.port),
            self._own_context() if origin_of(target) == self._home else self.plain,
            proxy,
            rule if proxy is None else None,
        )

    def _own_context(self) -> ssl.SSLContext:
        """The context with the client certificate, which is loaded again if it was renewed."""
        if self._files:
            versions = [_version(file) for file in self._files]
            if versions != self._versions:
                self._versions = versions
                with suppress(ConfigError):
                    self._own = ssl_context(self._options)
        return self._own


def _version(file: Path) -> tuple[int, ...] | None:
    """Numbers that change if a file is written or replaced; None if there is none."""
    try:
        found = file.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
