"""Redirects, and other URLs that a registry chooses: the rules for following them.

Credentials, the connection's own headers, and a call's headers are sent to the connection's origin
only, except the headers of a call that HTTP itself needs for a body, such as `Range`. https never
becomes http. `exchange` applies these rules to every URL.

A request that changes something (POST, PUT, PATCH, DELETE) is not sent to a private address, unless
the registry is there itself or the setting `upload_origins` has the origin. Otherwise a hostile
registry could make the client change things in a network that only the client can reach. GET and
HEAD may be sent there: they change nothing, and registries in private networks redirect downloads
to a storage beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import httpx

from dockhand_core.errors import DockhandError, ResponseInvalid
from dockhand_core.flow import Call
from dockhand_core.http.addresses import AddressRule, host_of
from dockhand_core.http.urls import PORTS, Origin, origin_of, redacted_url

__all__ = [
    "MAX_REDIRECTS",
    "check_target",
    "harmless_headers",
    "redirect_target",
    "target_addresses",
]

MAX_REDIRECTS = 5

_READ_METHODS = frozenset({"GET", "HEAD"})
_READ_STATUSES = frozenset({301, 302, 303, 307, 308})
_WRITE_STATUSES = frozenset({307, 308})  # the others would turn the request into a GET
# The headers of a call that another origin gets, too: a storage needs them to send the right bytes,
# or to take them. Any other may hold a secret, whatever its name.
_HARMLESS = frozenset(
    {
        "accept",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
    }
)


def check_target(call: Call, url: str, base: str, origin: Origin) -> bool:
    """Check a URL that the registry chose, and return whether it may receive credentials.

    Args:
        call: the call, for the error's message.
        url: the URL: of a redirect, an upload's `Location` or a `Link`.
        base: the connection's URL, for the error's message.
        origin: the connection's origin.

    Returns:
        whether the URL has the connection's origin: scheme, host and port.

    Raises:
        ResponseInvalid: the URL's scheme is neither http nor https, or leads from https to http.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in PORTS or (scheme == "http" and origin[0] == "https"):
        raise ResponseInvalid(
            f"{call.method}: the registry at {base} leads to {redacted_url(url)}, "
            "which is not followed: https never becomes http. A proxy in front of it must set "
            "X-Forwarded-Proto, or the registry must send relative URLs",
            repository=call.repository,
        )
    return origin_of(url) == origin


def harmless_headers(call: Call) -> Mapping[str, str]:
    """The headers of a call that are sent to another origin than the connection's."""
    return {name: value for name, value in call.headers.items() if name.lower() in _HARMLESS}


def target_addresses(
    call: Call, url: str, base: str, allowed: Collection[Origin]
) -> AddressRule | None:
    """The rule for the addresses of a URL at another origin, which the registry chose.

    Args:
        call: the call.
        url: the URL: of a redirect, or an upload's `Location`.
        base: the connection's URL.
        allowed: the origins of the setting `upload_origins`, which may have any address.

    Returns:
        the rule; None if any address may be connected to.
    """
    origin = origin_of(url)
    if call.method in _READ_METHODS or origin in allowed:
        return None

    def error(why: str) -> DockhandError:
        scheme, host, port = origin
        named = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        return ResponseInvalid(
            f"{call.method}: the registry at {base} leads to {redacted_url(url)}, to which nothing "
            f"is sent: {why}; if it may receive uploads, set in the connection: "
            f'upload_origins = ["{named}"]',
            repository=call.repository,
        )

    return AddressRule(host_of(base), error)


def redirect_target(call: Call, response: httpx.Response) -> str | None:
    """The `Location` of a redirect that is followed, or None for any other response.

    A status that the call expects is never a redirect.
    """
    statuses = _READ_STATUSES if call.method in _READ_METHODS else _WRITE_STATUSES
    if response.status_code not in statuses or response.status_code in call.expect:
        return None
    target: str | None = response.headers.get("location")
    return target
