"""The errors of this package."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["KeyInvalid", "TokenInvalid"]


class KeyInvalid(DockhandError, ValueError):
    """A key or certificate cannot be used; the message never contains the key itself."""


class TokenInvalid(DockhandError, ValueError):
    """A token must be refused, or cannot be created.

    Attributes:
        reason: `malformed`, `algorithm`, `signature`, `issuer`, `audience`, `expired`,
            `not-yet-valid`, `claims` (a claim is missing or has the wrong type) or `check` (the
            function that the caller passed as `check` refused the claims).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
