"""Options of transports: TLS, proxies, number of connections."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dockhand_core.errors import ConfigError

__all__ = [
    "KEEPALIVE_SECONDS",
    "TransportOptions",
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
        client_cert: PEM file with the certificate chain to present to the server at `home`, and to
            no other. The private key is in the same file or in `client_key`, and must not be
            encrypted.
        client_key: PEM file with the private key of `client_cert`.
        proxy: URL of the proxy for all requests, ``http://[user:password@]host:port`` or the same
            with https.
        environment: whether the environment chooses the proxy of each request, if `proxy` is None;
            see `EnvironmentProxies`.
        home: the registry's URL; the client certificate is presented to its origin only.
        max_connections: maximum number of connections in use at once; also the maximum number of
            unused connections that are kept open.
    """

    name: str | None = None
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    environment: bool = False
    home: str | None = None
    max_connections: int = 32


def ssl_context(options: TransportOptions, *, certificate: bool = True) -> ssl.SSLContext:
    """Make a TLS context with the trusted authorities.

    Args:
        options: the options of the transport.
        certificate: whether the context has the client certificate too.

    Raises:
        ConfigError: a certificate or key cannot be read.
    """
    verify = options.verify
    cert, key = (options.client_cert, options.client_key) if certificate else (None, None)
    what = "the authorities that SSL_CERT_FILE or SSL_CERT_DIR name"
    try:
        if verify is True and _loads_later(options.home):
            context: ssl.SSLContext = _UsualAuthorities()
        elif isinstance(verify, bool):
            context = httpx.create_ssl_context(verify=verify)
        else:
            what = f"CA bundle {_shown(verify)}"
            folder = verify.is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else str(verify), capath=str(verify) if folder else None
            )
        if cert is not None:
            what = f"client certificate {_shown(cert)}" + (
                f" with key {_shown(key)}" if key else ""
            )
            # without a password, OpenSSL would prompt for one on the terminal
            context.load_cert_chain(cert, key, password="")
        elif key is not None:
            raise ConfigError(f"client key {_shown(key)}: there is no client certificate beside it")
    except (OSError, ValueError) as error:
        # without the file name of an OSError, which may be a key instead of a path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{what}: {reason}") from None
    return context


def _loads_later(home: str | None) -> bool:
    """Whether to load the usual authorities when they are needed, instead of now.

    Authorities that the environment names may be invalid, which is reported now if the registry is
    on https.
    """
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if os.environ.get("SSLKEYLOGFILE"):
        return False
    return not named or (home is not None and home.startswith("http:") and Path(named).exists())


class _UsualAuthorities(ssl.SSLContext):
    """A TLS context like httpx's, whose authorities are loaded for the first TLS connection.

    They are those that the environment names, or those of certifi.

    Loading them takes about as long as ten requests, and a registry on http needs none.
    """

    def __new__(cls) -> _UsualAuthorities:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and names
        if sys.version_info >= (3, 13):  # as `ssl.create_default_context` does
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        context._loading, context._loaded = threading.Lock(), False
        return context

    _loading: threading.Lock
    _loaded: bool

    def _load(self) -> None:
        with self._loading:
            if self._loaded:
                return
            if file := os.environ.get("SSL_CERT_FILE"):
                self.load_verify_locations(cafile=file)
            elif folder := os.environ.get("SSL_CERT_DIR"):
                self.load_verify_locations(capath=folder)
            else:
                import certifi

                self.load_verify_locations(cafile=certifi.where())
            self._loaded = True

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        self._load()
        return super().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self._load()
        return super().wrap_bio(*args, **options)


def _shown(path: Path | None) -> str:
    """The text of a path for an error message, unless it is PEM data instead of a path."""
    text = str(path)
    return "(PEM data instead of a path)" if "-----BEGIN" in text or "\n" in text else text
