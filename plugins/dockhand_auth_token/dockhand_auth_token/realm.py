"""The check whether a realm, the URL of a token endpoint, may receive credentials.

A registry names its token endpoint itself, so an attacker may have chosen the URL.

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
    """The origin of a URL (scheme, host and port), as text for messages and comparisons."""
    scheme, host, port = origin_of(url)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_realm(realm: str, registry: str, allowed: Sequence[str] | None) -> None:
    """Raise an error if a realm must not receive credentials.

    An http realm is refused unless the registry's URL is also http. The function blocks while the
    host name of the realm is resolved.

    Args:
        realm: the URL of the token endpoint, named by the registry or by a redirect.
        registry: the registry's URL.
        allowed: the origins that may receive credentials; all others are refused. With None, a
            realm on a private address is refused unless the registry is on the same host (the
            same name or address; all loopback addresses count as one host).

    Raises:
        RealmNotAllowed: the realm is refused.
        ConnectionFailed: the host name cannot be resolved.
    """
    try:
        parts = urlsplit(realm)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        raise RealmNotAllowed(
            "the token endpoint that the registry names is not a URL", realm=""
        ) from None
    if scheme not in {"http", "https"} or not host or parts.username is not None:
        raise RealmNotAllowed(
            "the token endpoint that the registry names is not an http or https URL: "
            f"{one_line(redacted_url(realm))!r}",
            realm="",
        )
    registry_parts = urlsplit(registry)
    if scheme == "http" and registry_parts.scheme.lower() != "http":
        _refuse(realm, registry, "credentials must not go from https to http", hint=False)
    if allowed is not None:
        if origin_text(realm) not in {origin_text(each) for each in allowed}:
            _refuse(realm, registry, "it is not among the connection's realms")
        return
    registry_host = registry_parts.hostname or ""
    if host == registry_host.lower():
        return
    private = [each for each in _resolve(host, port) if not each.is_global or each.is_multicast]
    if not private:
        return
    registry_addresses = _literal_addresses(registry_host)
    on_loopback = any(each.is_loopback for each in registry_addresses)
    if all(each in registry_addresses or (each.is_loopback and on_loopback) for each in private):
        return
    _refuse(realm, registry, "it is on a private address, and the registry is not on that host")


def _literal_addresses(host: str) -> set[Address]:
    """The address of a host that is `localhost` or an IP address; empty for any other name.

    Other names are not resolved: the owner of a hostile registry controls the registry's DNS, and
    could make such a name resolve to any private address.
    """
    if host.lower() == "localhost":
        return {_parse_address("127.0.0.1")}
    try:
        return {_parse_address(host)}
    except ValueError:
        return set()


def _resolve(host: str, port: int | None) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(
            f"the address of the token endpoint {one_line(host)} cannot be looked up: {error}"
        ) from None
    return {_parse_address(str(each[4][0])) for each in found}


def _parse_address(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _refuse(realm: str, registry: str, why: str, *, hint: bool = True) -> NoReturn:
    origin = origin_text(realm)
    message = (
        f"the registry at {origin_text(registry)} refers to the token endpoint {origin}, which "
        f"must not receive credentials: {why}"
    )
    if hint:
        message += f'; if it may receive them, set in the auth table: realms = ["{origin}"]'
    raise RealmNotAllowed(message, realm=origin)
