"""HTTP Basic credentials, as a server receives them."""

from __future__ import annotations

import base64
import binascii

__all__ = ["basic_credentials"]


def basic_credentials(header: str) -> tuple[str, bytes] | None:
    """The user name and password in an `Authorization` header; None if it has no valid ones.

    Args:
        header: value of the header, or an empty string.

    Returns:
        The user name as text and the password as bytes.

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
