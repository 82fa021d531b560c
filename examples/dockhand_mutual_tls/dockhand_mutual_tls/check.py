"""The check of a connection: its files first, then a handshake with the registry."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path

import httpx

from dockhand_core import ConfigError, ConnectionFailed, DockhandError
from dockhand_core.config import ConnectionConfig, DockhandConfig
from dockhand_mutual_tls.certificate import ClientCertificate, read_certificate
from dockhand_mutual_tls.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateUnusable,
    NoCertificate,
    RegistryNotTrusted,
)

__all__ = ["check"]

_VERDICT_SECONDS = 1.0  # in TLS 1.3, a server refuses a certificate after the client's handshake
# Parts of the alerts that a server sends if it refuses a certificate, or gets none. Some servers
# end the connection without one.
_ABOUT_CERTIFICATES = (
    "CERTIFICATE",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
    "HANDSHAKE_FAILURE",
    "UNEXPECTED_EOF",
)


def check(config: DockhandConfig, name: str | None = None) -> ClientCertificate:
    """Check the client certificate of a connection, and whether the registry accepts it.

    It blocks for about a second; in asyncio, call it with `asyncio.to_thread`.

    Args:
        config: the settings: `dockhand.config` of a manager, or those of `load_config()`.
        name: name of the connection; by default the default one.

    Returns:
        The certificate, which the registry has accepted.

    Raises:
        MutualTLSError: its subclass says what is wrong.
        ConnectionFailed: the registry cannot be reached.
        ConfigError: there is no such connection.
    """
    name, table = config.connection(name)
    if table.client_cert is None or table.client_key is None:
        raise NoCertificate(f"connection {name!r}: set client_cert and client_key")
    found = read_certificate(table.client_cert, table.client_key)
    try:
        url = httpx.URL(str(table.options.get("base_uri", "")))
    except httpx.InvalidURL as error:
        raise ConfigError(f"connection {name!r}: base_uri: {error}") from None
    if url.scheme != "https":
        raise NoCertificate(f"connection {name!r}: base_uri is not https, so none is presented")
    _shake_hands(table, url, found)
    return found


def _shake_hands(table: ConnectionConfig, url: httpx.URL, certificate: ClientCertificate) -> None:
    place = f"{url.host}:{url.port or 443}"
    context = _context(table)
    shaken = False
    try:
        with (
            socket.create_connection((url.host, url.port or 443), table.timeout) as plain,
            context.wrap_socket(plain, server_hostname=url.host) as tls,
        ):
            shaken = True
            tls.settimeout(_VERDICT_SECONDS)
            with suppress(TimeoutError):  # it waits for a request, so it has accepted
                if not tls.recv(1):
                    raise _not_trusted(place, certificate, "connection closed")
    except ssl.SSLCertVerificationError as error:
        raise RegistryNotTrusted(
            f"{place}: {error.verify_message}; `verify` has to name the CA that issued the "
            f"registry's certificate, and base_uri a host in it (verify is {table.verify})"
        ) from None
    except ssl.SSLError as error:
        raise refusal(error, place, certificate) from None
    except (OSError, UnicodeError) as error:  # the latter: no host can have this name
        reason = getattr(error, "strerror", None) or str(error)
        if shaken:  # some servers break off without an alert
            raise _not_trusted(place, certificate, reason) from None
        raise ConnectionFailed(f"{place}: {reason}") from None


def _context(table: ConnectionConfig) -> ssl.SSLContext:
    """Make a context with the same certificates as the connection's own."""
    if isinstance(table.verify, Path):
        folder, path = table.verify.is_dir(), str(table.verify)
        try:
            context = ssl.create_default_context(
                cafile=None if folder else path, capath=path if folder else None
            )
        except OSError as error:
            raise RegistryNotTrusted(f"verify: {table.verify}: {error.strerror}") from None
    else:
        context = httpx.create_ssl_context(verify=table.verify)
    if table.client_cert is not None:
        try:
            context.load_cert_chain(table.client_cert, table.client_key)
        except OSError as error:  # too weak for OpenSSL, for example, or just replaced
            reason = getattr(error, "reason", None) or error.strerror
            raise CertificateUnusable(f"{table.client_cert}: {reason}") from None
    return context


def refusal(error: ssl.SSLError, place: str, certificate: ClientCertificate) -> DockhandError:
    """Make the exception for a handshake that failed, mostly by an alert of the registry's."""
    alert = f"{error.reason or error}".replace(" ", "_").upper()
    if alert.endswith("CERTIFICATE_EXPIRED"):
        return CertificateExpired(
            f"{place}: the registry says that the certificate has expired, which is valid until "
            f"{certificate.not_after:%Y-%m-%d %H:%M} UTC here; compare the clocks"
        )
    if alert.endswith(("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")):
        return _not_trusted(place, certificate, alert)
    if alert.endswith("CERTIFICATE_REQUIRED"):
        return NoCertificate(f"{place}: the registry got no client certificate ({alert})")
    if any(word in alert for word in _ABOUT_CERTIFICATES):
        return CertificateRefused(f"{place}: the registry refuses the certificate ({alert})")
    return ConnectionFailed(
        f"{place}: the TLS handshake failed ({alert}); is this the registry's port for https?"
    )


def _not_trusted(place: str, certificate: ClientCertificate, reason: str) -> CertificateRefused:
    return CertificateRefused(
        f"{place}: the registry does not trust the certificate ({reason}); it was issued by "
        f"{certificate.issuer}: add this CA to those that the registry trusts, or the certificates "
        "of intermediate CAs to client_cert"
    )
