"""What this package raises."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["KeyInvalid", "TokenInvalid"]


class KeyInvalid(DockhandError, ValueError):
    """Not a key or certificate that can be used; the message never shows what was given."""


class TokenInvalid(DockhandError, ValueError):
    """A token that must not be accepted, or cannot be made.

    Attributes:
        reason: `malformed`, `algorithm`, `signature`, `issuer`, `audience`, `expired`,
            `not-yet-valid`, `claims` (one is missing or of a wrong type) or `check` (the
            caller's own).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
