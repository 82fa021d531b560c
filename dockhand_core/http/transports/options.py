"""Options of transports: TLS, proxy, number of connections."""

from __future__ import annotations

import ipaddress
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from dockhand_core.errors import ConfigError

__all__ = [
    "KEEPALIVE_SECONDS",
    "TransportOptions",
    "environment_proxy",
    "parse_proxy",
    "ssl_context",
]

KEEPALIVE_SECONDS = 15.0  # how long an unused connection is kept open


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """The options of one connection's transport.

    Attributes:
        name: one of `TRANSPORTS`, or None for the default of the client's kind (sync or async).
        verify: how to check the server's certificate: True trusts the usual authorities; a path
            trusts only the PEM certificates in that file or folder; False does not check.
        client_cert: PEM file with the certificate chain to present to the server. The private key
            is in the same file or in `client_key`, and must not be encrypted.
        client_key: PEM file with the private key of `client_cert`.
        proxy: URL of the proxy, ``http://[user:password@]host:port`` or the same with https. None
            for no proxy: environment variables are ignored here (see `environment_proxy`).
        max_connections: maximum number of connections in use at once; also the maximum number of
            unused connections that are kept open.
    """

    name: str | None = None
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    max_connections: int = 32


def environment_proxy(url: str) -> str | None:
    """The proxy for a URL according to the environment variables, or None.

    The variables are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. No proxy is used for
    `localhost` and loopback addresses.
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


def parse_proxy(options: TransportOptions) -> httpx.Proxy | None:
    """The proxy of a transport as an `httpx.Proxy`, or None.

    Raises:
        ConfigError: the proxy is not an http or https URL.
    """
    if options.proxy is None:
        return None
    try:  # the error below does not show the cause, which would quote the password
        proxy = httpx.Proxy(options.proxy)
        if proxy.url.scheme in ("http", "https") and proxy.url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass
    raise ConfigError("proxy: give it as http://[user:password@]host:port (or https://)") from None


def ssl_context(options: TransportOptions) -> ssl.SSLContext:
    """Make the TLS context, with the trusted authorities and the client certificate.

    Raises:
        ConfigError: a certificate or key cannot be read.
    """
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
            # without a password, OpenSSL would prompt for one on the terminal
            context.load_cert_chain(cert, key, password="")
        elif key is not None:
            raise ConfigError(f"client key {key}: there is no client certificate beside it")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error
    return context
