"""The errors of this package."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["KeyInvalid", "TokenInvalid"]


class KeyInvalid(DockhandError, ValueError):
    """A key or certificate cannot be used; the message never contains the key itself."""


class TokenInvalid(DockhandError, ValueError):
    """A token must not be accepted, or cannot be made.

    Attributes:
        reason: `malformed`, `algorithm`, `signature`, `issuer`, `audience`, `expired`,
            `not-yet-valid`, `claims` (one is missing or has the wrong type) or `check` (the
            caller's own check refused it).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
