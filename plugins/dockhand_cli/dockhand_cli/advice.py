"""The next step after an error of a registry, in a few words."""

from __future__ import annotations

import re

from dockhand_core import errors

__all__ = ["advice_for", "error_text"]

_REQUEST = re.compile(r"[A-Z]+ (https?)://([^/\s]+)/")


def error_text(error: BaseException) -> str:
    """Write an error with its next step, in one line."""
    return "; ".join(filter(None, (str(error), advice_for(error))))


def advice_for(error: BaseException) -> str:
    """Say what to do next after an error; the empty text if the error says so, or nothing helps.

    Args:
        error: an exception of a request. Its message begins with the method and the URL.
    """
    request = _REQUEST.match(str(error))
    if request is None:
        return ""
    scheme, host = request[1], request[2]
    if host == "registry-1.docker.io":
        host = "docker.io"
    if isinstance(error, errors.Unauthorized):
        return (
            f"log in with: dockhand login {host}; for a connection of dockhand.toml, set its `auth`"
        )
    if isinstance(error, errors.NameUnknown):
        return f"`dockhand ls {host}` lists the repositories"
    if isinstance(error, errors.ManifestUnknown) and error.repository:
        return f"`dockhand tags {host}/{error.repository}` lists the tags"
    if isinstance(error, errors.ConnectionFailed):
        return _unreachable(str(error), scheme, host)
    return ""


def _unreachable(message: str, scheme: str, host: str) -> str:
    if "WRONG_VERSION_NUMBER" in message or "record layer" in message.lower():
        return f'{host} speaks http: use a connection with base_uri = "http://{host}"'
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "a connection's setting `verify` names the CA file of a private certificate"
    if host == "docker.io":
        return (
            "a name without a host is one of docker.io; write HOST/REPOSITORY for another one, or "
            "@CONNECTION/REPOSITORY for a connection of dockhand.toml"
        )
    if "refused" in message and scheme == "https":
        return f'if {host} speaks http, use a connection with base_uri = "http://{host}"'
    return f"check that {host} is right, and that the registry runs"
