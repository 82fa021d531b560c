"""Where credentials may go: a realm is a URL that an attacker may have chosen.

Follows: Distribution's "Token Authentication Specification"; RFC 6750, section 5.2 ("Threat
Mitigation").
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from dockhand_auth_token.errors import RealmNotAllowed
from dockhand_core import ConnectionFailed
from dockhand_core.http.urls import one_line, origin_of, redacted_url

__all__ = ["check_realm", "origin_text"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def origin_text(url: str) -> str:
    """Scheme, host and port of a URL, for messages and for comparing."""
    scheme, host, port = origin_of(url)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_realm(realm: str, registry: str, allowed: Sequence[str] | None) -> None:
    """Refuse a realm that must not see credentials; looks its name up, and so waits.

    Args:
        realm: the URL that the registry, or a redirect, names.
        registry: the registry's URL.
        allowed: the origins that are allowed, and no others; None where the address decides: it
            has to be public, unless the registry itself is on that host (the same name or
            address; all of loopback is one host). In any case, http only where the registry is
            http.

    Raises:
        RealmNotAllowed: it is refused.
        ConnectionFailed: its name cannot be looked up.
    """
    try:
        parts = urlsplit(realm)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        raise RealmNotAllowed("the realm is no URL", realm="") from None
    if scheme not in {"http", "https"} or not host or parts.username is not None:
        raise RealmNotAllowed(
            f"the realm is no http or https URL: {one_line(redacted_url(realm))!r}", realm=""
        )
    mine = urlsplit(registry)
    if scheme == "http" and mine.scheme.lower() != "http":
        _refuse(realm, registry, "credentials do not go from https to http", hint=False)
    if allowed is not None:
        if origin_text(realm) not in {origin_text(each) for each in allowed}:
            _refuse(realm, registry, "it is not among the connection's realms")
        return
    if host == (mine.hostname or "").lower():
        return
    hidden = [each for each in _addresses(host, port) if not each.is_global or each.is_multicast]
    if not hidden:
        return
    own = _literal(mine.hostname or "")
    at_home = any(each.is_loopback for each in own)
    if all(each in own or (each.is_loopback and at_home) for each in hidden):
        return
    _refuse(realm, registry, "it is on a private address, and the registry is not on that host")


def _literal(host: str) -> set[Address]:
    """The address that a host is by its name. What DNS says of a registry is the registry's."""
    if host.lower() == "localhost":
        return {_address("127.0.0.1")}
    try:
        return {_address(host)}
    except ValueError:
        return set()


def _addresses(host: str, port: int | None) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(
            f"{one_line(host)}: its address cannot be looked up: {error}"
        ) from None
    return {_address(str(each[4][0])) for each in found}


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _refuse(realm: str, registry: str, why: str, *, hint: bool = True) -> NoReturn:
    origin = origin_text(realm)
    message = f"the registry at {origin_text(registry)} wants tokens of {origin}: {why}"
    if hint:
        message += (
            f'; if it may see the credentials, say so in the auth table: realms = ["{origin}"]'
        )
    raise RealmNotAllowed(message, realm=origin)
