"""What carries a request: httpx is the interface, the library under it is chosen here.

Blocking clients stand on httpx itself, asynchronous ones on aiohttp, which moves small replies
over many connections several times faster. The choice does not depend on what is installed.

Whatever carries it, a request behaves alike: one attempt, no redirect followed, no cookie kept,
no header added beyond what HTTP/1.1 needs, the URL sent as it was given, timeouts taken from
``request.extensions["timeout"]``, and an `httpx.TransportError` where no whole reply arrives.
"""

from __future__ import annotations

import ipaddress
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import h11
import httpx

from dockhand_core.errors import ConfigError

SYNC_TRANSPORTS = ("httpx",)
"""Names that `build_transport` takes; the first is the default."""

ASYNC_TRANSPORTS = ("aiohttp", "httpx")
"""Names that `build_async_transport` takes; the first is the default."""

TRANSPORTS = tuple(sorted({*SYNC_TRANSPORTS, *ASYNC_TRANSPORTS}))
"""Every name that a connection's `transport` setting may have."""

KEEPALIVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How one connection reaches its registry.

    Attributes:
        name: one of `TRANSPORTS`, or None for the default of the client's kind.
        verify: True for the usual authorities, False for no check, or a file (or a folder) of
            PEM certificates that replaces them.
        client_cert: PEM certificate chain shown to the server, with the key in it or in
            `client_key`, which must not be encrypted.
        client_key: PEM key of `client_cert`.
        proxy: ``http://[user:password@]host:port``, or https. None: no proxy, whatever the
            environment says; see `environment_proxy`.
        max_connections: sockets in use at one time, and kept open for the next request.
    """

    name: str | None = None
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    max_connections: int = 32


def build_transport(options: TransportOptions) -> httpx.BaseTransport:
    """Make what carries the requests of a blocking client; threads may share it.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    _choose(options.name, SYNC_TRANSPORTS, "blocking")
    return _Httpx(verify=_ssl_context(options), proxy=_proxy(options), limits=_limits(options))


def build_async_transport(options: TransportOptions) -> httpx.AsyncBaseTransport:
    """Make what carries the requests of an asynchronous client, within one event loop.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    name = _choose(options.name, ASYNC_TRANSPORTS, "asynchronous")
    context, proxy = _ssl_context(options), _proxy(options)
    if name == "aiohttp":
        from dockhand_core.http.transports.aiohttp import AiohttpTransport

        return AiohttpTransport(context, proxy, options.max_connections)
    from dockhand_core.http.transports.httpx import AsyncHttpx

    limits = httpx.Limits(
        max_connections=None,  # the slots count
        max_keepalive_connections=options.max_connections,
        keepalive_expiry=KEEPALIVE_SECONDS,
    )
    return AsyncHttpx(options.max_connections, verify=context, proxy=proxy, limits=limits)


def environment_proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `url`, if any.

    Loopback hosts are always reached directly.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or _is_loopback(host):
        return None
    netloc = parts.netloc.rpartition("@")[2]
    if urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(netloc):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")


def _choose(name: str | None, offered: tuple[str, ...], kind: str) -> str:
    if name is None:
        return offered[0]
    if name not in offered:
        raise ConfigError(
            f"transport {name!r} cannot carry {kind} clients; choose from: {', '.join(offered)}"
        )
    return name


def _limits(options: TransportOptions) -> httpx.Limits:
    return httpx.Limits(
        max_connections=options.max_connections,
        max_keepalive_connections=options.max_connections,
        keepalive_expiry=KEEPALIVE_SECONDS,
    )


def _proxy(options: TransportOptions) -> httpx.Proxy | None:
    if options.proxy is None:
        return None
    try:  # the reason is not shown: it would quote the password
        proxy = httpx.Proxy(options.proxy)
        if proxy.url.scheme in ("http", "https") and proxy.url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass
    raise ConfigError("proxy: give it as http://[user:password@]host:port (or https://)") from None


def _ssl_context(options: TransportOptions) -> ssl.SSLContext:
    verify, cert, key = options.verify, options.client_cert, options.client_key
    what = "the authorities that SSL_CERT_FILE or SSL_CERT_DIR name"
    try:
        if isinstance(verify, bool):
            context = httpx.create_ssl_context(verify=verify)
        else:
            what = f"CA bundle {verify}"
            folder = verify.is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else str(verify), capath=str(verify) if folder else None
            )
        if cert is not None:
            what = f"client certificate {cert}" + (f" with key {key}" if key else "")
            # without a password given, OpenSSL would ask for one on the terminal
            context.load_cert_chain(cert, key, password="")
        elif key is not None:
            raise ConfigError(f"client key {key}: there is no client certificate beside it")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error
    return context


@contextmanager
def no_leaks() -> Iterator[None]:
    """Turn what httpx 0.28 lets through of the libraries below it into its own errors."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except ssl.SSLError as error:
        raise httpx.ReadError(str(error)) from error


class _Httpx(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with no_leaks():
            return super().handle_request(request)
