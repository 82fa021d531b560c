"""The check whether a realm, the URL of a token endpoint, may receive credentials.

A registry names its token endpoint itself, so an attacker may have chosen the URL.

Follows: Distribution's "Token Authentication Specification"; RFC 6750, section 5.2 ("Threat
Mitigation").
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from dockhand_auth_token.errors import RealmNotAllowed
from dockhand_core.http.addresses import AddressRule, host_of, refusals
from dockhand_core.http.urls import one_line, origin_of, redacted_url

__all__ = ["check_realm", "origin_text"]


def origin_text(url: str) -> str:
    """The origin of a URL (scheme, host and port), as text for messages and comparisons."""
    scheme, host, port = origin_of(url)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_realm(realm: str, registry: str, allowed: Sequence[str] | None) -> AddressRule | None:
    """Raise an error if a realm must not receive credentials.

    An http realm is refused unless the registry's URL is also http. Host names are not looked up
    here: the rule that is returned applies to the addresses that the request is sent to.

    Args:
        realm: the URL of the token endpoint, named by the registry or by a redirect.
        registry: the registry's URL.
        allowed: the origins that may receive credentials; all others are refused. With None, a
            realm on a private address is refused unless the registry is on the same host (the
            same name or address; all loopback addresses count as one host).

    Returns:
        the rule for the addresses of the realm, for `AuthDriver.fetch`; None if `allowed` has the
        realm, which may then have any address.

    Raises:
        RealmNotAllowed: the realm is refused.
    """
    try:
        parts = urlsplit(realm)
        scheme, host = parts.scheme.lower(), parts.hostname
        if scheme in {"http", "https"} and host:
            host = host_of(realm)
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
    if scheme == "http" and urlsplit(registry).scheme.lower() != "http":
        raise _refusal(realm, registry, "credentials must not go from https to http", hint=False)
    if allowed is not None:
        if origin_text(realm) not in {origin_text(each) for each in allowed}:
            raise _refusal(realm, registry, "it is not among the connection's realms")
        return None
    rule = AddressRule(host_of(registry), lambda why: _refusal(realm, registry, why))
    with refusals(rule):
        rule.check_host(host)
    return rule


def _refusal(realm: str, registry: str, why: str, *, hint: bool = True) -> RealmNotAllowed:
    origin = origin_text(realm)
    message = (
        f"the registry at {origin_text(registry)} refers to the token endpoint {origin}, which "
        f"must not receive credentials: {why}"
    )
    if hint:
        message += f'; if it may receive them, set in the auth table: realms = ["{origin}"]'
    return RealmNotAllowed(message, realm=origin)
