"""Parsing of HTTP Basic credentials in requests to a server."""

from __future__ import annotations

import base64
import binascii

__all__ = ["basic_credentials"]


def basic_credentials(header: str) -> tuple[str, bytes] | None:
    """Parse the user name and password in an `Authorization` header.

    Args:
        header: value of the header; an empty string if the request has no such header.

    Returns:
        The user name as text and the password as bytes; None if the header has no valid Basic
        credentials.

    Follows: RFC 7617, "The 'Basic' HTTP Authentication Scheme".
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
        user, colon, password = decoded.partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
