"""Redirects, and other URLs that a registry chooses: the rules for following them.

Credentials and the connection's own headers are sent to the connection's origin only, and https
never becomes http. `exchange` applies these rules to every URL.
"""

from __future__ import annotations

import httpx

from dockhand_core.errors import ResponseInvalid
from dockhand_core.flow import Call
from dockhand_core.http.urls import PORTS, Origin, origin_of, redacted_url

__all__ = ["MAX_REDIRECTS", "check_target", "redirect_target"]

MAX_REDIRECTS = 5

_READ_STATUSES = frozenset({301, 302, 303, 307, 308})
_WRITE_STATUSES = frozenset({307, 308})  # the others would turn the request into a GET


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


def redirect_target(call: Call, response: httpx.Response) -> str | None:
    """The `Location` of a redirect that is followed, or None for any other response.

    A status that the call expects is never a redirect.
    """
    statuses = _READ_STATUSES if call.method in ("GET", "HEAD") else _WRITE_STATUSES
    if response.status_code not in statuses or response.status_code in call.expect:
        return None
    target: str | None = response.headers.get("location")
    return target
